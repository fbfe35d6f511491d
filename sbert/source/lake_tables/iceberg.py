"""Tables of Iceberg: the data files of the current snapshot, as objects, read by pyiceberg without a catalog.

Columns are found by the ids that Iceberg gives them, so a renamed column is found in older files too. The metadata file with
the highest number is the newest version, unless ``version-hint.text`` names another.
"""

import datetime as dt
import hashlib
import importlib.util
import json
import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sbert.errors import SbertError, SourceError
from sbert.source.formats.parquet import types_of_schema
from sbert.source.lake_tables.nested_columns import FIELD_ID, with_file_names
from sbert.source.objects import SourceObject, SourceTable
from sbert.storage.files import join, list_names, normalize_uri, read_bytes
from sbert.storage.redaction import redact

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import StaticTable

__all__ = ["KIND", "METADATA_ENDINGS", "METADATA_FOLDER", "iceberg_files"]

KIND = "Iceberg"
METADATA_FOLDER = "metadata"
METADATA_ENDINGS = (".metadata.json", ".metadata.json.gz")
HINT = "version-hint.text"
EXPORT = (
    "rewrite the table's data files with its own engine, or export its rows to a folder of Parquet files and read that"
)
MAX_REASON_CHARACTERS = 300


def iceberg_files(uri: str) -> list[SourceObject]:
    """Return the data files of the current snapshot of a table, ordered by URI.

    Args:
        uri: the table's folder, or one of its metadata files.

    Raises:
        SourceError: pyiceberg is not installed, the metadata cannot be read, or the table has files that are not
            supported; the message names it.
        StorageError: storage refused.
    """
    if importlib.util.find_spec("pyiceberg") is None:
        raise SourceError(
            f"{uri}: is a table of {KIND}, and pyiceberg is not installed: run pip install 'sbert-prefect[iceberg]', or "
            "export the table's rows to a folder of Parquet files and read that"
        )
    location = uri if uri.endswith(METADATA_ENDINGS) else newest_metadata(uri)
    try:
        opened = _open(location)
        tasks = list(opened.scan().plan_files())
    except SbertError:
        raise
    except Exception as error:
        reason = redact(" ".join(str(error).split())[:MAX_REASON_CHARACTERS])
        raise SourceError(
            f"{location}: this metadata of an {KIND} table cannot be read ({reason}): {EXPORT}"
        ) from error
    num_with_deletes = sum(1 for task in tasks if task.delete_files)
    if num_with_deletes:
        raise SourceError(
            f"{location}: {num_with_deletes} of {len(tasks)} data files of this {KIND} table have delete files, which are "
            f"not supported: {EXPORT}"
        )
    others = sorted({task.file.file_format.value for task in tasks if task.file.file_format.value != "PARQUET"})
    if others:
        raise SourceError(
            f"{location}: this {KIND} table has files of {', '.join(others)}, only Parquet is read: {EXPORT}"
        )
    table = _describe(location, opened)
    snapshot = opened.current_snapshot()
    modified = None if snapshot is None else dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC)
    files = [_file_of(opened, table, task.file, modified) for task in tasks]
    return sorted(files, key=lambda item: item.uri)


def newest_metadata(uri: str) -> str:
    """Return the location of the newest metadata file of a table's folder.

    Raises:
        SourceError: two files have the highest number, or there is none.
    """
    folder = join(uri, METADATA_FOLDER)
    names = list_names(folder)
    files = [name for name in names if name.endswith(METADATA_ENDINGS)]
    if HINT in names:
        hint = read_bytes(join(folder, HINT)).decode("utf-8", "replace").strip()
        hinted = [name for name in files if name in {hint, f"v{hint}.metadata.json", f"{hint}.metadata.json"}]
        if hinted:
            return join(folder, hinted[0])
    numbers = {name: int(match[1]) for name in files if (match := re.match("v?([0-9]+)[-.]", name))}
    newest = [name for name, number in numbers.items() if number == max(numbers.values())]
    if len(newest) != 1:
        listed = ", ".join(sorted(newest)) or "none with a number"
        raise SourceError(
            f"{folder}: the newest metadata of this {KIND} table is not clear ({listed}): name the file to read"
        )
    return join(folder, newest[0])


def _open(location: str) -> "StaticTable":
    """Open a table by its metadata file; settings in the metadata do not choose the code that reads."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import StaticTable

    from sbert.source.lake_tables.iceberg_io import StorageIO

    io = StorageIO()
    return StaticTable(
        identifier=(KIND, location),
        metadata=FromInputFile.table_metadata(io.new_input(location)),
        metadata_location=location,
        io=io,
        catalog=NoopCatalog(KIND),
    )


def _describe(location: str, opened: "StaticTable") -> SourceTable:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    snapshot = opened.metadata.current_snapshot_id
    schema = schema_to_pyarrow(opened.schema())
    return SourceTable(
        kind=KIND,
        uri=_location(opened.location()) or posixpath.dirname(posixpath.dirname(location)),
        version=f"{posixpath.basename(location)}, snapshot {snapshot}",
        columns=types_of_schema(schema),
        field_ids={field.name: field.field_id for field in opened.schema().fields},
        nested={
            field.name: with_file_names(field, id_key=FIELD_ID) for field in schema if pa.types.is_nested(field.type)
        },
    )


def _location(uri: str) -> str:
    return normalize_uri(re.sub("^s3[an]://", "s3://", re.sub("^file:/+", "/", uri)))


def _file_of(opened: "StaticTable", table: SourceTable, file: "DataFile", modified: dt.datetime | None) -> SourceObject:
    values = _partition_values(opened, file)
    plain = f"{file.file_size_in_bytes}-{file.record_count}"
    others = [part for part in (_renamed(opened), values) if part]
    return SourceObject(
        uri=_location(file.file_path),
        version=f"{plain}-{_digest(others)}" if others else plain,
        num_bytes=file.file_size_in_bytes,
        modified=modified,
        format="table_file",
        values=values,
        table=table,
        num_rows=file.record_count,
    )


def _digest(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _partition_values(opened: "StaticTable", file: "DataFile") -> dict[str, str | None]:
    """Return the columns that partition a file by their own values, as text."""
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import BooleanType

    values: dict[str, str | None] = {}
    for place, part in enumerate(opened.specs()[file.spec_id].fields):
        if not isinstance(part.transform, IdentityTransform):
            continue
        field = next((field for field in opened.schema().fields if field.field_id == part.source_id), None)
        if field is None:
            continue  # the column was dropped since
        value = file.partition[place]
        text = None if value is None else part.transform.to_human_string(field.field_type, value)
        values[field.name] = text.lower() if text and isinstance(field.field_type, BooleanType) else text
    return values


def _renamed(opened: "StaticTable") -> dict[str, int]:
    """Return the ids of columns and inner fields whose name had another id, or whose id had another name, earlier."""
    pairs = {pair for schema in opened.schemas().values() for pair in _names_and_ids(schema)}
    names, ids = Counter(name for name, _ in pairs), Counter(number for _, number in pairs)
    now = _names_and_ids(opened.schema())
    return {name: number for name, number in now if names[name] > 1 or ids[number] > 1}


def _names_and_ids(schema: "Schema") -> list[tuple[str, int]]:
    """Return the names of all columns and inner fields, such as ``doc.summary``, with their ids."""
    return [(name, schema.find_field(name).field_id) for name in schema.column_names]
