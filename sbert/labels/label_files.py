"""Label objects into one frame with the columns of their kind."""

from collections.abc import Sequence

import polars as pl

from sbert.counted import counted
from sbert.errors import ColumnError, LabelError, SettingsError
from sbert.labels.class_lists import LISTS, ClassLists, as_lists, map_classes
from sbert.labels.given_splits import column_split, named_split
from sbert.labels.label_kinds import ALIASES, COLUMNS, LabelKind
from sbert.labels.label_records import read_label_object
from sbert.labels.label_set import LabelObject
from sbert.labels.label_values import one_spelling
from sbert.labels.settings import LabelSettings
from sbert.source.formats.base import missing_column, there_are
from sbert.source.objects import SourceObject
from sbert.source.values import as_text

__all__ = ["as_texts", "columns_of_labels", "kept_columns", "read_labels", "with_kept"]

LISTS_ALIAS = "labels"
"""Another name of the column ``label`` where it may hold lists."""


def read_labels(
    objects: Sequence[SourceObject],
    settings: LabelSettings,
    class_lists: ClassLists | None = None,
    *,
    columns_if_there: Sequence[str] = (),
) -> tuple[LabelKind, pl.DataFrame, list[LabelObject]]:
    """Read label objects whole; return their kind, their rows, and one record of each object for later runs.

    The frame has the columns of the kind, those to keep (null where an object does not have one), ``split`` (null where
    the source does not say) and ``object``. Columns of `columns_if_there` are kept too, unless no object has them. With
    `class_lists` the column ``label`` holds lists where the source does, or where `ClassLists.join_rows` says that a text
    can have several classes.

    Raises:
        ColumnError: when a column is not there, with those that are.
        BrokenObjectError: when an object cannot be read to its end, or a row is broken.
        LabelError: when there is no row, objects are of different kinds, or a column holds no texts.
    """
    kind = settings.kind
    asked, settings = settings, with_kept(settings, columns_if_there)
    frames: list[pl.DataFrame] = []
    read: list[LabelObject] = []
    columns: dict[str, None] = {}
    for item in objects:
        raw = _read(item, settings, class_lists)
        label_object = LabelObject(item.uri, item.version, raw.height)
        read.append(label_object)
        if raw.height == 0:
            continue
        renamed = _rename(raw, item, settings, has_lists=class_lists is not None)
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
        frame = _select(renamed, item, kind, settings, class_lists)
        frames.append(frame.with_columns(*kept, pl.lit(label_object.key).alias("object")))
    if kind is None or not frames:
        others = f" and {counted(len(objects) - 1, 'other file')}" if len(objects) > 1 else ""
        raise LabelError(
            f"{objects[0].uri}{others}: there are no labels in {'them' if others else 'it'}: add rows, for example with the "
            "columns text and label"
        )
    missing = [name for name in kept_columns(kind, asked) if name not in columns]
    if missing:
        raise ColumnError(
            f"{objects[0].uri}: no column {missing[0]!r} to keep (keep_columns, slice_columns) in any of {len(objects)} "
            f"objects, {there_are(list(columns), missing[0])}"
        )
    kept_names = [name for name in kept_columns(kind, settings) if name in columns]
    if class_lists is not None:
        frames = _alike(frames)
    rows = pl.concat(frames, how="vertical").drop(
        [name for name in kept_columns(kind, settings) if name not in columns]
    )
    values = [name for name in COLUMNS[kind] if name == "label"] + kept_names
    is_nli = kind is LabelKind.NLI  # its labels may be the numbers 0, 1, 2

    def spelled(column: pl.Series) -> pl.Series:
        return one_spelling(column, objects[0].uri, always=is_nli and column.name == "label")

    columns_spelled = [
        map_classes(rows[name], spelled) if rows.schema[name] == LISTS else spelled(rows[name]) for name in values
    ]
    return kind, rows.with_columns(columns_spelled), read


def columns_of_labels(
    objects: Sequence[SourceObject], settings: LabelSettings, class_lists: ClassLists | None = None
) -> list[str]:
    """Return the names of the columns of label objects, as their source has them; the objects are read whole.

    Raises:
        BrokenObjectError, ColumnError, LabelError: as `read_labels`.
    """
    return list(dict.fromkeys(name for item in objects for name in _read(item, settings, class_lists).columns))


def with_kept(settings: LabelSettings, names: Sequence[str]) -> LabelSettings:
    """Return settings that keep further columns."""
    return settings.model_copy(update={"keep_columns": tuple(dict.fromkeys([*settings.keep_columns, *names]))})


def _read(item: SourceObject, settings: LabelSettings, class_lists: ClassLists | None) -> pl.DataFrame:
    if class_lists is None:
        return read_label_object(item, settings)
    names = {"label", *ALIASES["label"], LISTS_ALIAS, settings.columns.get("label", "label")}
    return read_label_object(item, settings, lists=class_lists.columns | names)


def _alike(frames: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Check that the labels of all objects are lists, or none are. A column without a value can be either."""
    lists = [frame for frame in frames if frame.schema.get("label") == LISTS]
    if not lists:
        return frames
    single = [
        frame for frame in frames if frame.schema["label"] != LISTS and frame["label"].null_count() < frame.height
    ]
    if single:
        raise LabelError(
            f"{lists[0]['object'][0]} holds lists of classes, {single[0]['object'][0]} holds one class a row: write "
            "lists in both, or set multi_label_columns to the label column"
        )
    return [frame.with_columns(pl.col("label").cast(LISTS)) for frame in frames]


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


def _rename(frame: pl.DataFrame, item: SourceObject, settings: LabelSettings, *, has_lists: bool) -> pl.DataFrame:
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
            names = (*others, LISTS_ALIAS) if has_lists and ours == "label" else others
            theirs = next((name for name in names if name in frame.columns), "")
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


def _select(
    frame: pl.DataFrame, item: SourceObject, kind: LabelKind, settings: LabelSettings, class_lists: ClassLists | None
) -> pl.DataFrame:
    for name in COLUMNS[kind]:
        if name not in frame.columns:
            raise ColumnError(f"{item.uri}: {kind} need a column {name!r}, {there_are(frame.columns, name)}")
    lists = None if class_lists is None or kind is not LabelKind.CLASSES else _lists(frame, item, class_lists)
    columns = [
        lists if lists is not None and name == "label" else as_texts(frame, name, item.uri) for name in COLUMNS[kind]
    ]
    name = settings.split_column or "split"
    values = as_texts(frame, name, item.uri) if name in frame.columns else None
    splits = column_split(values, frame.columns, item.uri, settings)
    if splits is not None:
        return frame.select(*columns, splits)
    by_name = named_split(item.uri) if settings.use_given_splits else None
    return frame.select(*columns, pl.lit(by_name, pl.String).alias("split"))


def _lists(frame: pl.DataFrame, item: SourceObject, class_lists: ClassLists) -> pl.Series | None:
    """Return the lists of classes of the label column; None where it holds one class a row, as it may."""
    label = frame["label"]
    if label.dtype == LISTS:
        return label
    if not class_lists.join_rows:
        return None
    texts = as_texts(frame, "label", item.uri)
    texts = texts.set(texts.str.strip_chars() == "", None)
    lists = as_lists(texts, item.uri)
    return (
        lists if lists is not None else pl.Series("label", [None if t is None else [t.strip()] for t in texts], LISTS)
    )
