"""Read `tables.yaml`: the source of each table, its followers, and the times of its jobs."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deployments.applications import VARIABLE, ApplicationEntry, Schedule, application_of
from flows.parameters import AdvancedSettings
from sbert.errors import SettingsError
from sbert.index.index_settings import IndexSettings
from sbert.retrain.settings import RetrainSettings
from sbert.settings import explain
from sbert.storage.files import normalize_uri
from sbert.sync.destinations.locate import check_location

__all__ = ["DestinationEntry", "TableEntry", "TablesFile", "read_tables", "spelled"]


class DestinationEntry(BaseModel):
    """A vector store that follows a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: str = Field(min_length=1, description="Location, such as postgresql://host/database#public.docs.")
    credentials: str = Field(default="", description="Prefect Secret block with its password, key or token.")
    sync: Schedule | None = Field(
        default=Schedule(cron="0 6 * * *"),
        description="Times of a sync beside the one after each version, in case an event was lost.",
    )
    reconcile: Schedule | None = Field(
        default=Schedule(cron="30 6 * * *"), description="Times at which every row is compared with the table."
    )

    @model_validator(mode="after")
    def _check(self) -> "DestinationEntry":
        if VARIABLE not in self.location:
            check_location(self.location)
        return self


class TableEntry(BaseModel):
    """One table: its locations, the columns that it keeps, and the times of its jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw: str = Field(min_length=1, description="File, folder or glob of raw text.")
    table: str = Field(min_length=1, description="Folder of the table.")
    labels: str | None = Field(default=None, description="Labels to retrain on; empty for no retraining.")
    models: str | None = Field(default=None, description="Model registry whose promotions re-embed the table.")
    text_column: str | None = Field(
        default=None, description="Column that holds the text, or a template over columns such as {title}. {body}."
    )
    id_column: str | None = Field(default=None, description="Column that holds the row's id.")
    keep_columns: list[str] = Field(default=[], description="Source columns to keep.")
    settings: dict[str, Any] = Field(
        default={}, description="Further settings, as `sbert settings refresh` lists them."
    )
    retrain_settings: dict[str, Any] = Field(default={}, description="As `sbert settings retrain` lists them.")
    min_new_labels: int = Field(
        default=100, ge=1, description="Least number of new labels that start a retraining (rows)."
    )
    destinations: dict[str, DestinationEntry] = Field(default={}, description="Vector stores that follow the table.")
    applications: dict[str, ApplicationEntry] = Field(
        default={}, description="Jobs that keep an output of their own up to date with the table."
    )
    index: bool = Field(default=False, description="Whether each published version is indexed for search.")
    words: bool = Field(default=False, description="Whether the words of each published version are indexed too.")
    index_settings: dict[str, Any] = Field(default={}, description="As `sbert settings index` lists them.")
    nightly: Schedule | None = Field(default=Schedule(cron="0 2 * * *", timezone="Europe/Berlin"))
    upkeep: Schedule | None = Field(default=Schedule(cron="0 5 * * 0", timezone="Europe/Berlin"))
    watch_labels: Schedule | None = Field(default=Schedule(cron="*/5 * * * *"))
    work_pool: str = Field(default="sbert", description="Prefect work pool whose workers run the jobs.")

    @model_validator(mode="after")
    def _check(self) -> "TableEntry":
        if self.labels is not None and self.models is None:
            raise SettingsError("labels are given without models: set models to the location of the model registry")
        for name, application in self.applications.items():
            if application.after is not None and application.after not in self.applications:
                raise SettingsError(
                    f"applications.{name}.after is {application.after}, but this table has no such application: "
                    f"choose from {', '.join(sorted(set(self.applications) - {name})) or 'none'}"
                )
            application_of(name, application)
        if self.models is not None and "model" in self.settings:
            raise SettingsError(
                f"settings.model is {self.settings['model']}: every night would undo the promotions of {self.models}; make "
                "the table once with `sbert refresh --model`, because a table keeps its encoder"
            )
        for name, kind, value in (
            ("settings", AdvancedSettings, self.refresh_settings()),
            ("retrain_settings", RetrainSettings, self.retrain_settings),
            ("index_settings", IndexSettings, self.index_settings),
        ):
            try:
                kind.model_validate(value)
            except ValidationError as error:
                raise SettingsError(f"{name}: {explain(error, kind)}") from error
        return self

    def refresh_settings(self) -> dict[str, Any]:
        """Return the settings of every job that builds rows of the table; empty when nothing is said."""
        columns = {"text_column": self.text_column, "id_column": self.id_column, "keep_columns": self.keep_columns}
        source = {**self.settings.get("source", {}), **{name: value for name, value in columns.items() if value}}
        return {**self.settings, **({"source": source} if source else {})}


class TablesFile(BaseModel):
    """`tables.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: dict[str, TableEntry] = Field(min_length=1, description="Tables by name.")

    @model_validator(mode="after")
    def _check(self) -> "TablesFile":
        for name in self.tables:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise SettingsError(f"{name!r} is not a valid name of a table: use letters, digits, - and _")
        for what in ("table", "labels"):
            counts = Counter(location for entry in self.tables.values() if (location := _location(entry, what)))
            for location, number in counts.items():
                if number > 1:
                    names = [name for name, entry in self.tables.items() if _location(entry, what) == location]
                    raise SettingsError(
                        f"the tables {' and '.join(names)} have the same {what} {location}: "
                        + (
                            "name it for one table; the others follow its models"
                            if what == "labels"
                            else "name it once"
                        )
                    )
        return self


def _location(entry: TableEntry, what: str) -> str | None:
    value = getattr(entry, what)
    return None if value is None else spelled(value)


def spelled(location: str) -> str:
    """Return the one spelling of a location; a value that `prefect deploy` fills in stays as it is."""
    return location if VARIABLE in location else normalize_uri(location)


def read_tables(path: Path) -> TablesFile:
    """Read and check `tables.yaml`.

    Raises:
        SettingsError: naming the table and the field that is wrong.
    """
    try:
        return TablesFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error, TablesFile)}") from error
