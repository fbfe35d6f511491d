"""Tables of Delta Lake: the files of the log's newest version, as objects.

One look at the log gives everything that planning needs. The version of an object is its entry in the log, so a change of
the log that leaves a file alone (compaction of other files, new statistics) is no change of the object.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sbert.errors import SourceError
from sbert.source.lake_tables.deleted_rows import pack_deleted
from sbert.source.lake_tables.nested_columns import file_names, with_file_names
from sbert.source.objects import SourceObject, SourceTable
from sbert.source.values import as_text
from sbert.storage.files import delta_retry_options, delta_storage_options, join
from sbert.storage.redaction import redact
from sbert.storage.retry import try_again

__all__ = ["KIND", "LOG_FOLDER", "delta_files"]

KIND = "Delta Lake"
LOG_FOLDER = "_delta_log"
FEATURES = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Reader features under which the files are read as this module does; others are refused by name."""
MAPPING_MODE = "delta.columnMapping.mode"
STORED_NAME = "delta.columnMapping.physicalName"
FIELD_ID = "delta.columnMapping.id"
MAX_REASON_CHARACTERS = 300


def delta_files(uri: str) -> list[SourceObject]:
    """Return the active files of the newest version of the table at `uri`, ordered by URI.

    Raises:
        SourceError: the log cannot be read, or the table uses a feature that is not supported; the message names it.
        StorageError: storage refused.
    """
    try:
        delta = try_again(uri, lambda: _open(uri))
        table = _describe(uri, delta)
        actions = pl.DataFrame(delta.get_add_actions())  # pyarrow would import pandas for this
        deleted = _deleted_rows(uri, delta)
    except DeltaError as error:
        raise SourceError(
            f"{uri}: is a table of {KIND} whose log cannot be read ({_first_line(error)}). Restore the table, or export its "
            "rows to a folder of Parquet files and read that"
        ) from error
    partitions = actions["partition"].struct.unnest() if "partition" in actions.columns else pl.DataFrame()
    values = pl.DataFrame([_written(column) for column in partitions.get_columns()])
    rows = values.to_dicts() if values.width else [{}] * actions.height
    entries = actions.select("path", "size_bytes", "modification_time", "num_records").to_dicts()
    files = [
        _file_of(table, entry, row, deleted.pop(_location(uri, entry["path"]), None))
        for entry, row in zip(entries, rows, strict=True)
    ]
    if deleted:
        raise SourceError(
            f"{uri}: the log marks rows of {min(deleted)} as deleted, but has no such file ({len(deleted)} files in all): "
            "export the table's rows to a folder of Parquet files and read that"
        )
    return sorted(files, key=lambda item: item.uri)


def _open(uri: str) -> DeltaTable:
    return DeltaTable(uri, storage_options=delta_storage_options(uri) | delta_retry_options(uri))


def _describe(uri: str, delta: DeltaTable) -> SourceTable:
    """Return version, columns and their names in the files; refuse a table that cannot be read correctly."""
    strange = sorted(set(delta.protocol().reader_features or ()) - FEATURES)
    if strange:
        raise SourceError(
            f"{uri}: this table of {KIND} uses the features {', '.join(strange)}, which are not supported: export its rows "
            "to a folder of Parquet files and read that"
        )
    fields = delta.schema().fields
    schema = pa.schema(delta.schema().to_arrow())
    mode = delta.metadata().configuration.get(MAPPING_MODE, "none")
    return SourceTable(
        kind=KIND,
        uri=uri,
        version=str(delta.version()),
        columns=_types(schema),
        stored_names={field.name: field.metadata[STORED_NAME] for field in fields} if mode == "name" else {},
        field_ids={field.name: int(field.metadata[FIELD_ID]) for field in fields} if mode == "id" else {},
        nested={
            field.name: with_file_names(
                field,
                name_key=STORED_NAME.encode() if mode == "name" else None,
                id_key=FIELD_ID.encode() if mode == "id" else None,
            )
            for field in schema
            if pa.types.is_nested(field.type)
        },
    )


def _types(schema: pa.Schema) -> dict[str, pl.DataType]:
    frame = pl.from_arrow(schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return dict(frame.schema)


def _deleted_rows(uri: str, delta: DeltaTable) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return which rows are deleted, by location of the file, of the files that have deletion vectors."""
    if "deletionVectors" not in (delta.protocol().reader_features or ()):
        return {}
    vectors = pl.DataFrame(try_again(uri, lambda: delta.deletion_vectors().read_all()))
    return {
        _same_spelling(uri, row["filepath"], delta.table_uri): ~np.array(row["selection_vector"], dtype=bool)
        for row in vectors.iter_rows(named=True)
    }


def _same_spelling(uri: str, file_uri: str, delta_uri: str) -> str:
    """Return the location of a file as this module spells it; delta-rs gives absolute, encoded URIs."""
    location = unquote(file_uri).removeprefix("file://")
    root = unquote(delta_uri).removeprefix("file://").rstrip("/") + "/"
    return join(uri, location.removeprefix(root)) if location.startswith(root) else location


def _location(uri: str, path: str) -> str:
    """Return the location of a file of the log: relative to the table, or absolute in a clone.

    Raises:
        SourceError: when the path leads out of the table.
    """
    path = unquote(path)
    if "://" in path or path.startswith(("/", "file:/")):
        return re.sub("^file:/+", "/", path)
    if ".." in path.split("/"):
        raise SourceError(f"{uri}: the log names the file {path}, which is not in the table's folder: repair the table")
    return join(uri, path)


def _file_of(
    table: SourceTable,
    entry: dict[str, Any],
    values: dict[str, str | None],
    is_deleted: np.ndarray[Any, np.dtype[np.bool_]] | None,
) -> SourceObject:
    deleted_rows = "" if is_deleted is None else pack_deleted(is_deleted)
    num_deleted = 0 if is_deleted is None else int(is_deleted.sum())
    num_rows = entry["num_records"]
    return SourceObject(
        uri=_location(table.uri, entry["path"]),
        version=_version(entry, [table.stored_names, table.field_ids, values, deleted_rows, _inner_names(table)]),
        num_bytes=entry["size_bytes"],
        modified=dt.datetime.fromtimestamp(entry["modification_time"] / 1000, dt.UTC),
        format="table_file",
        values=values,
        table=table,
        num_rows=None if num_rows is None else num_rows - num_deleted,
        deleted_rows=deleted_rows,
    )


def _inner_names(table: SourceTable) -> dict[str, dict[str, str]]:
    """Return how inner fields are found in the files, where the table has column mapping."""
    return {column: names for column, field in table.nested.items() if (names := file_names(field))}


def _version(entry: dict[str, Any], parts: Iterable[object]) -> str:
    """Return size and time as the log has them, and a hash of whatever else of the log decides the file's rows."""
    plain = f"{entry['size_bytes']}-{entry['modification_time']}"
    others = [fact for fact in parts if fact]
    if not others:
        return plain
    text = json.dumps(others, sort_keys=True, ensure_ascii=False)
    return f"{plain}-{hashlib.blake2b(text.encode('utf-8', 'surrogateescape'), digest_size=8).hexdigest()}"


def _written(values: pl.Series) -> pl.Series:
    """Return the values of a partition column as text."""
    if isinstance(values.dtype, pl.Datetime):
        suffix = "Z" if values.dtype.time_zone else ""
        return values.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{suffix}")
    return as_text(values)


def _first_line(error: Exception) -> str:
    return redact(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().split("\n")[0][:MAX_REASON_CHARACTERS])
