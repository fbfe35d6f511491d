"""Label objects into one frame with the columns of their kind."""

from collections.abc import Sequence

import polars as pl

from sbert.counted import counted
from sbert.errors import ColumnError, LabelError, SettingsError
from sbert.labels.given_splits import column_split, named_split
from sbert.labels.label_kinds import ALIASES, COLUMNS, LabelKind
from sbert.labels.label_records import read_label_object
from sbert.labels.label_set import LabelObject
from sbert.labels.label_values import one_spelling
from sbert.labels.settings import LabelSettings
from sbert.source.formats.base import missing_column, there_are
from sbert.source.objects import SourceObject
from sbert.source.values import as_text

__all__ = ["as_texts", "kept_columns", "read_labels"]


def read_labels(
    objects: Sequence[SourceObject], settings: LabelSettings
) -> tuple[LabelKind, pl.DataFrame, list[LabelObject]]:
    """Read label objects whole; return their kind, their rows, and one record of each object for later runs.

    The frame has the columns of the kind, those to keep (null where an object does not have one), ``split`` (null where
    the source does not say) and ``object``.

    Raises:
        ColumnError: when a column is not there, with those that are.
        BrokenObjectError: when an object cannot be read to its end, or a row is broken.
        LabelError: when there is no row, objects are of different kinds, or a column holds no texts.
    """
    kind = settings.kind
    frames: list[pl.DataFrame] = []
    read: list[LabelObject] = []
    columns: dict[str, None] = {}
    for item in objects:
        raw = read_label_object(item, settings)
        label_object = LabelObject(item.uri, item.version, raw.height)
        read.append(label_object)
        if raw.height == 0:
            continue
        renamed = _rename(raw, item, settings)
        kind_here = settings.kind or _recognise(renamed, item)
        if kind is not None and kind_here is not kind:
            raise LabelError(
                f"{item.uri}: holds {kind_here}, other objects hold {kind}: train on one kind at a time, or name the kind"
            )
        kind = kind_here
        columns.update(dict.fromkeys(raw.columns))
        kept = [
            as_texts(raw, name, item.uri) if name in raw.columns else pl.lit(None, pl.String()).alias(name)
            for name in kept_columns(kind, settings)
        ]
        frame = _select(renamed, item, kind, settings)
        frames.append(frame.with_columns(*kept, pl.lit(label_object.key).alias("object")))
    if kind is None or not frames:
        others = f" and {counted(len(objects) - 1, 'other file')}" if len(objects) > 1 else ""
        raise LabelError(
            f"{objects[0].uri}{others}: there are no labels in {'them' if others else 'it'}: add rows, for example with the "
            "columns text and label"
        )
    missing = [name for name in kept_columns(kind, settings) if name not in columns]
    if missing:
        raise ColumnError(
            f"{objects[0].uri}: no column {missing[0]!r} to keep (keep_columns, slice_columns) in any of {len(objects)} "
            f"objects, {there_are(list(columns), missing[0])}"
        )
    kept_names = kept_columns(kind, settings)
    rows = pl.concat(frames, how="vertical")
    values = [name for name in COLUMNS[kind] if name == "label"] + kept_names
    is_nli = kind is LabelKind.NLI  # its labels may be the numbers 0, 1, 2
    spelled = [one_spelling(rows[name], objects[0].uri, always=is_nli and name == "label") for name in values]
    return kind, rows.with_columns(spelled), read


def kept_columns(kind: LabelKind, settings: LabelSettings) -> list[str]:
    """Return the columns that rows keep beside the columns of their kind."""
    ours = {*COLUMNS[kind], "split", "object", "row_id"}
    return [name for name in dict.fromkeys(settings.keep_columns) if name not in ours]


def as_texts(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    """Return a column as texts; numbers are written out.

    Raises:
        LabelError: when it holds lists, objects, or bytes that are not UTF-8.
    """
    column = frame[name]
    if not column.dtype.is_nested():
        texts = as_text(column)
        if column.dtype != pl.Binary or texts.null_count() == column.null_count():
            return texts
    raise LabelError(f"{source}: column {name!r} holds {column.dtype}, not one text a row: write each value as text")


def _rename(frame: pl.DataFrame, item: SourceObject, settings: LabelSettings) -> pl.DataFrame:
    """Rename columns to our names: as the settings say, then well-known other names of missing columns."""
    for ours, theirs in settings.columns.items():
        if ours not in ALIASES and ours not in {"premise", "hypothesis"}:
            raise SettingsError(
                f"columns names {ours!r}, our columns are: {', '.join([*ALIASES, 'premise, hypothesis'])}"
            )
        if theirs not in frame.columns:
            raise missing_column(item.uri, theirs, frame.columns, takes_templates=False)
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
            raise ColumnError(f"{item.uri}: {kind} need a column {name!r}, {there_are(frame.columns, name)}")
    columns = [as_texts(frame, name, item.uri) for name in COLUMNS[kind]]
    name = settings.split_column or "split"
    values = as_texts(frame, name, item.uri) if name in frame.columns else None
    splits = column_split(values, frame.columns, item.uri, settings)
    if splits is not None:
        return frame.select(*columns, splits)
    by_name = named_split(item.uri) if settings.use_given_splits else None
    return frame.select(*columns, pl.lit(by_name, pl.String).alias("split"))
