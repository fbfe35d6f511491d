"""Label objects into one frame with the columns of their kind."""

import io
from collections.abc import Sequence

import polars as pl
import pyarrow.parquet as pq

from sbert.errors import BrokenObjectError, ColumnError, LabelError, SettingsError
from sbert.labels.given_splits import column_split, named_split
from sbert.labels.label_kinds import ALIASES, COLUMNS, LabelKind
from sbert.labels.label_set import LabelObject
from sbert.labels.settings import LabelSettings
from sbert.source.lines import broken_data, open_stream
from sbert.source.objects import ObjectFormat, SourceObject
from sbert.source.splits import Span
from sbert.storage.files import open_input

__all__ = ["as_texts", "kept_columns", "read_labels"]


def read_labels(
    objects: Sequence[SourceObject], settings: LabelSettings
) -> tuple[LabelKind, pl.DataFrame, list[LabelObject]]:
    """Read label objects whole; give their kind, their rows, and what a later run needs to know of each object.

    The frame has the columns of the kind, those to keep (null where an object does not have one), ``split`` (null where
    the source does not say) and ``object``.

    Raises:
        ColumnError: when a column is not there, with those that are.
        BrokenObjectError: when an object cannot be read to its end.
        LabelError: when objects are of different kinds, or a column holds no texts.
    """
    kind = settings.kind
    frames: list[pl.DataFrame] = []
    read: list[LabelObject] = []
    columns: dict[str, None] = {}
    for item in objects:
        raw = _read_object(item, settings)
        known = LabelObject(item.uri, item.version, raw.height)
        read.append(known)
        if raw.height == 0:
            continue
        renamed = _rename(raw, item, settings)
        found = settings.kind or _recognise(renamed, item)
        if kind is not None and found is not kind:
            raise LabelError(
                f"{item.uri}: holds {found}, other objects hold {kind}: train on one kind at a time, or name the kind"
            )
        kind = found
        columns.update(dict.fromkeys(raw.columns))
        kept = [
            as_texts(raw, name, item.uri) if name in raw.columns else pl.lit(None, pl.String()).alias(name)
            for name in kept_columns(kind, settings)
        ]
        frame = _select(renamed, item, kind, settings)
        frames.append(frame.with_columns(*kept, pl.lit(known.key).alias("object")))
    if kind is None:
        raise LabelError(f"{objects[0].uri}: {len(objects)} objects and no row of labels in them")
    missing = [name for name in kept_columns(kind, settings) if name not in columns]
    if missing and frames:
        raise ColumnError(
            f"{objects[0].uri}: no column {missing[0]!r} to keep (keep_columns, slice_columns) in any of {len(objects)} "
            f"objects, the columns are: {', '.join(columns)}"
        )
    names = (*COLUMNS[kind], *kept_columns(kind, settings), "split", "object")
    return (
        kind,
        pl.concat(frames, how="vertical") if frames else pl.DataFrame(schema=dict.fromkeys(names, pl.String())),
        read,
    )


def kept_columns(kind: LabelKind, settings: LabelSettings) -> list[str]:
    """Give the columns that rows keep beside those they have in any case."""
    ours = {*COLUMNS[kind], "split", "object", "row_id"}
    return [name for name in dict.fromkeys(settings.keep_columns) if name not in ours]


def as_texts(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    """Give a column as texts; numbers are written out.

    Raises:
        LabelError: when it holds lists, objects, or bytes that are not UTF-8.
    """
    column = frame[name]
    try:
        if not column.dtype.is_nested():
            return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass  # bytes
    raise LabelError(f"{source}: column {name!r} holds {column.dtype}, not one text a row: write each value as text")


def _read_object(item: SourceObject, settings: LabelSettings) -> pl.DataFrame:
    if item.num_bytes == 0:
        return pl.DataFrame()
    if item.format is ObjectFormat.PARQUET:
        with broken_data(item.uri), open_input(item.uri) as file:
            table = pl.from_arrow(pq.read_table(file))
        assert isinstance(table, pl.DataFrame)
        return table
    with broken_data(item.uri), open_stream(Span(object=item)) as stream:
        content = stream.read()
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise BrokenObjectError(item.uri, f"byte {error.start} is not UTF-8: save the labels as UTF-8") from error
    if item.format is ObjectFormat.TEXT:
        return pl.DataFrame({"text": text.splitlines()})
    try:
        if item.format is ObjectFormat.JSONL:
            return pl.read_ndjson(io.BytesIO(text.encode()), infer_schema_length=None)
        return _read_csv(text, item, settings)
    except pl.exceptions.PolarsError as error:
        detail = str(error).strip().splitlines()[0]
        raise BrokenObjectError(item.uri, f"not readable as {item.format}: {detail}") from error


def _read_csv(text: str, item: SourceObject, settings: LabelSettings) -> pl.DataFrame:
    """Read all values as text: what a column holds is known from the kind."""
    named = list(settings.csv_columns)
    frame = pl.read_csv(io.BytesIO(text.encode()), has_header=not named, infer_schema=False)
    if not named:
        return frame
    if frame.width != len(named):
        raise ColumnError(f"{item.uri}: has {frame.width} columns, csv_columns names {len(named)}: {', '.join(named)}")
    return frame.rename(dict(zip(frame.columns, named, strict=True)))


def _rename(frame: pl.DataFrame, item: SourceObject, settings: LabelSettings) -> pl.DataFrame:
    """Give columns our names: those in the settings, then well-known others for what is missing."""
    for ours, theirs in settings.columns.items():
        if ours not in ALIASES and ours not in {"premise", "hypothesis"}:
            raise SettingsError(
                f"columns names {ours!r}, our columns are: {', '.join([*ALIASES, 'premise, hypothesis'])}"
            )
        if theirs not in frame.columns:
            raise ColumnError(f"{item.uri}: no column {theirs!r}, the columns are: {', '.join(frame.columns)}")
        if ours != theirs:
            frame = frame.drop(ours, strict=False).rename({theirs: ours})
    for ours, others in ALIASES.items():
        if ours not in frame.columns:
            theirs = next((name for name in others if name in frame.columns), "")
            frame = frame.rename({theirs: ours}) if theirs else frame
    return frame


def _recognise(frame: pl.DataFrame, item: SourceObject) -> LabelKind:
    for kind, names in COLUMNS.items():
        if set(names) <= set(frame.columns):
            return kind
    kinds = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in COLUMNS.items())
    raise ColumnError(
        f"{item.uri}: the columns {', '.join(frame.columns)} are of no kind of labels ({kinds}): name yours in columns, or "
        "in csv_columns when a CSV has no header"
    )


def _select(frame: pl.DataFrame, item: SourceObject, kind: LabelKind, settings: LabelSettings) -> pl.DataFrame:
    for name in COLUMNS[kind]:
        if name not in frame.columns:
            raise ColumnError(f"{item.uri}: {kind} need a column {name!r}, the columns are: {', '.join(frame.columns)}")
    columns = [as_texts(frame, name, item.uri) for name in COLUMNS[kind]]
    name = settings.split_column or "split"
    values = as_texts(frame, name, item.uri) if name in frame.columns else None
    splits = column_split(values, frame.columns, item.uri, settings)
    if splits is not None:
        return frame.select(*columns, splits)
    by_name = named_split(item.uri) if settings.use_given_splits else None
    return frame.select(*columns, pl.lit(by_name, pl.String).alias("split"))
