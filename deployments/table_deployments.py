"""Make Prefect's deployment file from `tables.yaml`, which says for each table what it is made of.

    python deployments/table_deployments.py                    # writes prefect.yaml beside tables.yaml
    python deployments/table_deployments.py --tables /etc/sbert/tables.yaml --output /tmp/prefect.yaml
    cd deployments && prefect --no-prompt deploy --all

Prefect's file has no loops, so it is generated. The table `default` has deployments with plain names (`nightly-refresh`);
those of any other table end in its name (`nightly-refresh-tickets`). Values such as `{{ $SBERT_RAW_URI }}` are filled in by
`prefect deploy` from its environment.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, this folder alone is on the path

from flows.parameters import AdvancedSettings
from sbert.errors import SbertError, SettingsError
from sbert.index.index_settings import IndexSettings
from sbert.retrain.settings import RetrainSettings
from sbert.settings import explain
from sbert.storage.files import normalize_uri
from sbert.sync.destinations.locate import check_location

__all__ = ["TablesFile", "prefect_file", "read_tables"]

HERE = Path(__file__).resolve().parent
DEFAULT_TABLE = "default"
"""Table whose deployments have plain names."""
VARIABLE = "{{"
"""Begins a value that `prefect deploy` fills in."""
HEADER = """\
# Made by `python table_deployments.py` from tables.yaml: edit that file, not this one. For stock commands in this folder:
#
#   prefect work-pool create sbert --type process
#   prefect --no-prompt deploy --all
#   prefect automation create --from-file automations.yaml
#   prefect worker start --pool sbert
#
# Credentials come from the environment of the worker, never from here. Workers need this package installed and nothing else:
# entrypoints are modules, no code is pulled.
"""


class Schedule(BaseModel):
    """The times at which a deployment starts by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str = Field(min_length=9, description="Minute, hour, day of month, month, day of week.")
    timezone: str = Field(default="UTC", description="Time zone by its IANA name.")

    def entry(self, slug: str) -> dict[str, str]:
        """Return the schedule as Prefect's file has it."""
        return {"cron": self.cron, "timezone": self.timezone, "slug": slug}


class DestinationEntry(BaseModel):
    """A vector store that follows a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: str = Field(min_length=1, description="Location, such as postgresql://host/database#public.docs.")
    credentials: str = Field(default="", description="Prefect Secret block with its password, key or token.")
    sync: Schedule | None = Field(
        default=Schedule(cron="0 6 * * *"), description="Beside each published version, in case an event was lost."
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
    """One table: where everything is, what it keeps, and when its jobs start."""

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
    min_new_labels: int = Field(default=100, ge=1, description="Fewer new labels wait for more (rows).")
    destinations: dict[str, DestinationEntry] = Field(default={}, description="Vector stores that follow the table.")
    neighbours: str | None = Field(default=None, description="Table of each row's nearest rows; empty for none.")
    index: bool = Field(default=False, description="Whether each published version is indexed for search.")
    index_settings: dict[str, Any] = Field(default={}, description="As `sbert settings index` lists them.")
    nightly: Schedule | None = Field(default=Schedule(cron="0 2 * * *", timezone="Europe/Berlin"))
    upkeep: Schedule | None = Field(default=Schedule(cron="0 5 * * 0", timezone="Europe/Berlin"))
    watch_labels: Schedule | None = Field(default=Schedule(cron="*/5 * * * *"))
    work_pool: str = Field(default="sbert", description="Prefect work pool whose workers run the jobs.")

    @model_validator(mode="after")
    def _check(self) -> "TableEntry":
        if self.labels is not None and self.models is None:
            raise SettingsError("labels are given without models: set models to the location of the model registry")
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
                        f"the tables {' and '.join(names)} have the same {what} {location}: name it once"
                        + (", the other tables follow by their models" if what == "labels" else "")
                    )
        return self


def _location(entry: TableEntry, what: str) -> str | None:
    value = getattr(entry, what)
    return None if value is None else _spelled(value)


def _spelled(location: str) -> str:
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


def prefect_file(tables: TablesFile) -> dict[str, Any]:
    """Return the content of Prefect's deployment file."""
    is_alone = len(tables.tables) == 1
    deployments = [
        deployment for name, entry in tables.tables.items() for deployment in _deployments(name, entry, is_alone)
    ]
    return {"name": "sbert", "prefect-version": "3.8.8", "pull": [], "deployments": deployments}


def _deployments(table_name: str, entry: TableEntry, is_alone: bool) -> list[dict[str, Any]]:
    """Return the deployments of a table.

    Events of the only table are matched whatever their location; those of several tables by their own location.
    """
    settings = entry.refresh_settings()
    place: dict[str, Any] = {"raw_uri": _spelled(entry.raw), "table_uri": _spelled(entry.table)}
    if settings:
        place["settings"] = settings
    made = [
        _deployment(
            table_name, entry, "nightly-refresh", "flows.refresh.refresh_embeddings", "nightly",
            "Bring the table up to date with the raw text, every night.", place, schedule=entry.nightly,
        ),
        _deployment(
            table_name, entry, "backfill", "flows.backfill.backfill_embeddings", "backfill",
            "Redo a part of the table on purpose; fill in the form.", place,
        ),
        _deployment(
            table_name, entry, "upkeep", "flows.upkeep.upkeep_table", "weekly",
            "Merge small shards, remove files that no version within the retention needs, check every row.",
            {"table_uri": place["table_uri"]}, schedule=entry.upkeep,
        ),
        _deployment(
            table_name, entry, "erase", "flows.erase.erase_rows", "erase",
            "Erase rows for good, here and in everything that follows the table; fill in the form.",
            _erase_places(entry),
        ),
    ]  # fmt: skip
    if entry.models is not None:
        models = _spelled(entry.models)
        # The registry, not the version: of two promotions in a row the later one counts.
        made.append(
            _deployment(
                table_name, entry, "reembed-on-promotion", "flows.refresh.refresh_embeddings", "promotion",
                "Re-embed the table with the promoted model and switch it in one commit.", {**place, "model": models},
                trigger=_trigger("model promoted", "sbert.model.promoted", "sbert.registry", None if is_alone else models,
                                 {"model": "{{ event.payload.models_uri }}"}),
            )
        )  # fmt: skip
    if entry.models is not None and entry.labels is not None:
        labels = _spelled(entry.labels)
        learning = {"labels_uri": labels, "models_uri": models}
        made.append(
            _deployment(
                table_name, entry, "watch-labels", "flows.watch_labels.watch_labels", "labels",
                "Look for new labels; emit sbert.labels.arrived once for each new set.",
                {**learning, "min_new_rows": entry.min_new_labels}, schedule=entry.watch_labels,
            )
        )  # fmt: skip
        retrain = {"settings": entry.retrain_settings} if entry.retrain_settings else {}
        made.append(
            _deployment(
                table_name, entry, "retrain-on-labels", "flows.retrain.retrain_encoder", "training",
                "Fine-tune when labels have arrived; promote the model only if it is better.", {**learning, **retrain},
                trigger=_trigger("labels arrived", "sbert.labels.arrived", "sbert.labels", None if is_alone else labels,
                                 {name: f"{{{{ event.payload.{name} }}}}" for name in learning}),
            )
        )  # fmt: skip
    return [*made, *_followers(table_name, entry, is_alone)]


def _erase_places(entry: TableEntry) -> dict[str, Any]:
    """Return where an erasure has to look: everything that the entry names."""
    places: dict[str, Any] = {"table_uri": _spelled(entry.table)}
    if entry.destinations:
        places["destinations"] = {item.location: item.credentials for item in entry.destinations.values()}
    if entry.neighbours is not None:
        places["derived"] = [_spelled(entry.neighbours)]
    for name, value in (("labels_uri", entry.labels), ("models_uri", entry.models)):
        if value is not None:
            places[name] = _spelled(value)
    return places


def _followers(table_name: str, entry: TableEntry, is_alone: bool) -> list[dict[str, Any]]:
    """Return the deployments that start when the table has a new version."""
    table = _spelled(entry.table)
    trigger = _trigger("table published", "sbert.table.published", "sbert.table", None if is_alone else table, {})
    made = []
    for name, destination in entry.destinations.items():
        place = {"table_uri": table, "destination": destination.location, "credentials": destination.credentials}
        made.append(
            _deployment(
                table_name, entry, f"sync-on-publish-{name}", "flows.sync_destination.sync_destination", "sync",
                f"Bring {name} to each new version of the table.", place, schedule=destination.sync,
                trigger={**trigger, "name": f"{trigger['name']}: sync {name}"},
            )
        )  # fmt: skip
        made.append(
            _deployment(
                table_name, entry, f"reconcile-{name}", "flows.reconcile_destination.reconcile_destination", "reconcile",
                f"Compare every row of {name} with the table; fail when they differ.", place,
                schedule=destination.reconcile,
            )
        )  # fmt: skip
    if entry.index:
        index_settings = {"settings": entry.index_settings} if entry.index_settings else {}
        made.append(
            _deployment(
                table_name, entry, "index-on-publish", "flows.index_table.index_embeddings", "index",
                "Keep the index for search up to date, and measure its recall.",
                {"table_uri": table, **index_settings}, trigger={**trigger, "name": f"{trigger['name']}: index"},
            )
        )  # fmt: skip
    if entry.neighbours is not None:
        made.append(
            _deployment(
                table_name, entry, "neighbours-on-publish", "flows.neighbours.find_neighbours", "neighbours",
                "Keep the nearest rows of every row up to date.",
                {"table_uri": table, "out_uri": _spelled(entry.neighbours)},
                trigger={**trigger, "name": f"{trigger['name']}: neighbours"},
            )
        )  # fmt: skip
        made.append(
            _deployment(
                table_name, entry, "upkeep-neighbours", "flows.upkeep.upkeep_table", "weekly",
                "Remove files of the nearest rows that no version within the retention needs, check every row.",
                {"table_uri": _spelled(entry.neighbours), "compact": False}, schedule=entry.upkeep,
            )
        )  # fmt: skip
    return made


def _deployment(
    table_name: str,
    entry: TableEntry,
    job: str,
    entrypoint: str,
    tag: str,
    description: str,
    parameters: dict[str, Any],
    *,
    schedule: Schedule | None = None,
    trigger: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one deployment as Prefect's file has it."""
    is_default = table_name == DEFAULT_TABLE
    name = job if is_default else f"{job}-{table_name}"
    deployment = {
        "name": name,
        "description": description if is_default else f"{table_name}: {description}",
        "entrypoint": entrypoint,
        "tags": ["sbert", tag, *([] if is_default else [table_name])],
        "work_pool": {
            "name": entry.work_pool,
            "job_variables": {
                "env": {
                    # A killed run is noticed by the heartbeat that it no longer sends (automations.yaml).
                    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                    "PREFECT_LOGGING_EXTRA_LOGGERS": "sbert,flows,tasks",
                    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                    "DO_NOT_TRACK": "1",
                }
            },
        },
        # Of two runs the second waits. It then finds nothing left to do and ends at once.
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "parameters": parameters,
    }
    if schedule is not None:
        deployment["schedules"] = [schedule.entry(tag)]
    if trigger is not None:
        deployment["triggers"] = [{**trigger, "name": f"{trigger['name']}{'' if is_default else f' ({table_name})'}"}]
    return deployment


def _trigger(name: str, event: str, resource: str, location: str | None, parameters: dict[str, str]) -> dict[str, Any]:
    """Return the trigger of a deployment by an event about a location, or about any."""
    return {
        "type": "event",
        "name": f"sbert {name}",
        "enabled": True,
        "expect": [event],
        "match": {"prefect.resource.id": f"{resource}.{'*' if location is None else location}"},
        **({"parameters": parameters} if parameters else {}),
    }


class _PlainDumper(yaml.SafeDumper):
    """Writes equal values out each time, so that the file reads without jumps."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Use no aliases."""
        return True


def main() -> int:
    """Write Prefect's file, or say what is wrong with `tables.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=HERE / "tables.yaml", help="file to read")
    parser.add_argument("--output", type=Path, default=HERE / "prefect.yaml", help="file to write")
    asked = parser.parse_args()
    try:
        content = prefect_file(read_tables(asked.tables))
    except SbertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    written = yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)
    asked.output.write_text(HEADER + written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
