"""The settings that made the rows of a table, read from its record: how texts were cleaned and how long ones were cut.

An earlier or later release may have recorded a setting that this release does not know. Such a setting is passed over.
"""

from typing import Any, TypeVar

from pydantic import BaseModel

from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.rows.cleaning import CleaningSettings
from sbert.table.delta import Table

__all__ = ["table_cleaning", "table_windows"]

Settings = TypeVar("Settings", bound=BaseModel)


def table_cleaning(table: Table) -> CleaningSettings:
    """Return the rules that the table's texts were cleaned by."""
    return _read(CleaningSettings, (table.recorded_settings or {}).get("cleaning"))


def table_windows(table: Table) -> WindowSettings | None:
    """Return the windows that long texts of the table were cut into; None if they were not cut."""
    if table.encoder.truncation != "window":
        return None
    return _read(WindowSettings, (table.recorded_settings or {}).get("encoding", {}).get("windows"))


def _read(kind: type[Settings], recorded: dict[str, Any] | None) -> Settings:
    return kind.model_validate({name: value for name, value in (recorded or {}).items() if name in kind.model_fields})
