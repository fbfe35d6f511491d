"""Types of kept columns, and whether the named columns are there, from the first bytes of the source."""

import io
import json
from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow.parquet as pq

from sbert.errors import BrokenObjectError, ColumnError
from sbert.source.lines import broken_data, open_stream
from sbert.source.objects import ObjectFormat, SourceObject
from sbert.source.settings import SourceSettings
from sbert.source.splits import Span
from sbert.storage.files import open_input

__all__ = ["infer_kept_schema"]

HEAD_BYTES = 1 << 20
MAX_OBJECTS = 5
"""Objects looked at in search of one that is readable and not empty."""


def infer_kept_schema(objects: Sequence[SourceObject], source: SourceSettings) -> dict[str, pl.DataType]:
    """Give the types of `keep_columns`, as the first readable object of the source has them.

    Parquet keeps its types; for JSON Lines and CSV whole numbers become Int64, others Float64, nested values text that
    holds JSON; a column of nulls becomes text.

    Raises:
        ColumnError: when a named column is not there; the message lists those there are.
    """
    looked_at = 0
    for item in objects:
        if item.num_bytes == 0 or looked_at >= MAX_OBJECTS:
            continue
        looked_at += 1
        try:
            columns = _columns_of(item)
        except BrokenObjectError:
            continue  # reported when it is read
        if columns is None:
            continue
        wanted = [source.text_column, *([source.id_column] if source.id_column else []), *source.keep_columns]
        for name in wanted:
            if name not in columns:
                raise ColumnError(f"{item.uri}: no column {name!r}, the columns are: {', '.join(columns) or '(none)'}")
        return {name: columns[name] for name in source.keep_columns}
    if source.keep_columns and all(item.format is ObjectFormat.TEXT for item in objects):
        raise ColumnError(f"plain text has no columns to keep, asked for were {', '.join(source.keep_columns)}")
    return dict.fromkeys(source.keep_columns, pl.String())


def _columns_of(item: SourceObject) -> dict[str, pl.DataType] | None:
    """Give an object's columns and types; None when it has no rows or no columns."""
    if item.format is ObjectFormat.TEXT:
        return None
    if item.format is ObjectFormat.PARQUET:
        with broken_data(item.uri), open_input(item.uri, in_order=False) as file:
            frame = pl.from_arrow(pq.ParquetFile(file).schema_arrow.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return {name: _flat(kind) for name, kind in frame.schema.items()}
    with broken_data(item.uri), open_stream(Span(object=item)) as stream:
        head = stream.read(HEAD_BYTES)
    if item.format is ObjectFormat.CSV:
        return _csv_columns(head)
    return _json_columns(head[: head.rfind(b"\n") + 1] or head)


def _csv_columns(head: bytes) -> dict[str, pl.DataType] | None:
    whole = head[: head.rfind(b"\n") + 1] or head
    try:
        frame = pl.read_csv(
            io.BytesIO(whole),
            encoding="utf8-lossy",
            infer_schema_length=None,
            truncate_ragged_lines=True,
            ignore_errors=True,
        )
    except pl.exceptions.PolarsError:
        return None
    return {name.removeprefix("\ufeff"): _flat(kind) for name, kind in frame.schema.items()} or None


def _json_columns(head: bytes) -> dict[str, pl.DataType] | None:
    columns: dict[str, list[object]] = {}
    for record in _records(head):
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    return {name: _json_type(values) for name, values in columns.items()} or None


def _records(head: bytes) -> Iterable[dict[str, object]]:
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # rejected when it is read
        if isinstance(record, dict):
            yield record


def _json_type(values: list[object]) -> pl.DataType:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {int}:  # larger numbers would lose digits as Float64
        return (
            pl.Int64() if all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int)) else pl.String()
        )
    if kinds and kinds <= {int, float}:
        return pl.Float64()
    return pl.String()


def _flat(kind: pl.DataType) -> pl.DataType:
    """Replace types that the table does not keep by the nearest that it does."""
    if kind == pl.Null() or isinstance(kind, pl.Categorical | pl.Enum) or kind.is_nested():
        return pl.String()
    if kind.is_unsigned_integer():
        return pl.Int64()
    if isinstance(kind, pl.Datetime):
        return pl.Datetime("us", "UTC" if kind.time_zone else None)
    return kind
