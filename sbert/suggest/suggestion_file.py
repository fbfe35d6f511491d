"""Write suggestions as a label file that a person fills in."""

import io
import posixpath

import polars as pl

from sbert.errors import SettingsError
from sbert.labels.class_lists import LISTS
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import normalize_uri

__all__ = ["check_target", "write_suggestions"]

FORMATS = (".jsonl", ".csv", ".parquet")


def check_target(uri: str) -> None:
    """Check that suggestions can be written under a name.

    Raises:
        SettingsError: when its ending names no format of labels.
    """
    if posixpath.splitext(uri)[1] not in FORMATS:
        raise SettingsError(f"{uri}: the name must end in {', '.join(FORMATS)}")


def write_suggestions(rows: pl.DataFrame, uri: str) -> None:
    """Write suggestions as labels to be filled in. An existing file is never overwritten.

    Raises:
        SettingsError: when the file exists, or its ending names no format of labels.
    """
    check_target(uri)
    buffer = io.BytesIO()
    ending = posixpath.splitext(uri)[1]
    if ending == ".jsonl":
        rows.write_ndjson(buffer)
    elif ending == ".csv":
        lists = [name for name in rows.columns if rows.schema[name] == LISTS]
        rows.with_columns(pl.lit(None, pl.String).alias(name) for name in lists).write_csv(buffer)  # all are empty
    else:
        rows.write_parquet(buffer)
    if not create_bytes(normalize_uri(uri), buffer.getvalue()):
        raise SettingsError(f"{uri}: the file exists and may hold labels: name a new file")
