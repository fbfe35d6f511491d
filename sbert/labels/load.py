"""Read a folder of labels into a `LabelSet`."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import polars as pl

from sbert.errors import LabelError, SettingsError
from sbert.labels.checks import check_enough, clean_rows, drop_repeated, join_rows
from sbert.labels.class_lists import LISTS, ClassLists, lists_of_texts, texts_of_lists
from sbert.labels.given_splits import normalize_splits
from sbert.labels.label_files import as_texts, columns_of_labels, kept_columns, read_labels, with_kept
from sbert.labels.label_kinds import COLUMNS, LabelKind
from sbert.labels.label_set import LabelObject, LabelSet
from sbert.labels.settings import LabelSettings
from sbert.labels.splitting import assign_splits, leave_out_twins
from sbert.rows.cleaning import hash_texts
from sbert.source.listing import list_objects
from sbert.source.objects import SourceObject

__all__ = [
    "label_columns",
    "list_label_objects",
    "load_labels",
    "load_labels_and_rows",
    "make_label_set",
    "new_label_objects",
]

log = logging.getLogger(__name__)

DEFECTS = frozenset({"empty_text", "no_label", "contradiction"})
"""Reasons that are logged as a warning: the people who label should know of these rows."""


def list_label_objects(uri: str) -> list[SourceObject]:
    """Return the objects of labels under a file, folder or glob, ordered by URI.

    Raises:
        MissingError, EmptySourceError, StorageError: as `list_objects`.
    """
    return list_objects(uri, documents=False)


def new_label_objects(objects: Iterable[SourceObject], known_objects: frozenset[str]) -> list[SourceObject]:
    """Return the objects that are not in `known_objects` (`LabelSet.object_keys` of an earlier run)."""
    return [item for item in objects if LabelObject(item.uri, item.version, 0).key not in known_objects]


def load_labels(
    uri: str,
    settings: LabelSettings | None = None,
    *,
    to_train: bool = True,
    class_lists: ClassLists | None = None,
    columns_if_there: Sequence[str] = (),
) -> LabelSet:
    """Read, check and split the labels under a file, folder or glob.

    Args:
        uri: location of the labels, local or s3://.
        settings: how the labels are read and split.
        to_train: check that there are enough train rows. Labels that are only measured on need none.
        class_lists: accept classes as lists (`LabelSet.is_multi_label`); None to refuse lists.
        columns_if_there: columns that rows keep beside `LabelSettings.keep_columns` where the labels have them.

    Raises:
        MissingError, EmptySourceError, StorageError: when there is nothing, or storage refuses.
        ColumnError, BrokenObjectError: when an object cannot be read as labels.
        LabelError: when labels are wrong. `LeakageError` and `TooFewLabelsError` are two kinds of it.
    """
    return load_labels_and_rows(
        uri, settings, to_train=to_train, class_lists=class_lists, columns_if_there=columns_if_there
    )[0]


def load_labels_and_rows(
    uri: str,
    settings: LabelSettings | None = None,
    *,
    to_train: bool = True,
    class_lists: ClassLists | None = None,
    columns_if_there: Sequence[str] = (),
) -> tuple[LabelSet, pl.DataFrame]:
    """Load labels, and return also all rows as they were read, including the rows that are left out.

    Raises:
        MissingError, EmptySourceError, StorageError, ColumnError, BrokenObjectError, LabelError: as `load_labels`.
    """
    settings = settings or LabelSettings()
    kind, rows, objects = read_labels(list_label_objects(uri), settings, class_lists, columns_if_there=columns_if_there)
    settings = with_kept(settings, [name for name in columns_if_there if name in rows.columns])
    joins = class_lists is not None and class_lists.join_rows
    try:
        labels = make_label_set(rows, kind, settings, objects=tuple(objects), to_train=to_train, joins_rows=joins)
    except LabelError as error:
        raise type(error)(f"{uri}: {error}") from error
    return labels, rows


def label_columns(
    uri: str, settings: LabelSettings | None = None, *, class_lists: ClassLists | None = None
) -> list[str]:
    """Return the names of the columns of the labels under a file, folder or glob, for messages: the labels are read whole.

    Raises:
        MissingError, EmptySourceError, StorageError, ColumnError, BrokenObjectError, LabelError: as `load_labels`.
    """
    return columns_of_labels(list_label_objects(uri), settings or LabelSettings(), class_lists)


def make_label_set(
    rows: pl.DataFrame,
    kind: LabelKind,
    settings: LabelSettings | None = None,
    *,
    objects: tuple[LabelObject, ...] = (),
    to_train: bool = True,
    joins_rows: bool = False,
) -> LabelSet:
    """Check and split rows of labels in a frame.

    The frame has the columns of `kind`, the columns to keep, and ``split`` and ``object`` where they are known. Values may
    be text. Classes may be lists. `to_train` is that of `load_labels`, `joins_rows` is `ClassLists.join_rows`.

    Raises:
        SettingsError: when a column is missing.
        LabelError: when labels are wrong. `LeakageError` and `TooFewLabelsError` are two kinds of it.
    """
    settings = settings or LabelSettings()
    columns = [*COLUMNS[kind], *kept_columns(kind, settings)]
    is_multi_label = kind is LabelKind.CLASSES and rows.schema.get("label") == LISTS
    if is_multi_label:
        rows = rows.with_columns(texts_of_lists(rows["label"]))
    rows = _typed_rows(rows, kind, columns)
    num_rows_read = rows.height
    rejected: Counter[str] = Counter()
    rows, left_out = clean_rows(rows, kind, settings)
    rejected.update(left_out)
    given = frozenset({"dev", "test"} & set(rows["split"]))
    rows = assign_splits(rows, kind, settings)
    if is_multi_label and joins_rows:
        num_apart = rows.height
        rows = join_rows(rows)
        rejected["joined"] += num_apart - rows.height
    rows, left_out = _without_repeated(rows, kind, settings, given)
    rejected.update(left_out)
    num_distinct = rows.height
    rows, leakage = leave_out_twins(rows, kind, settings, given=given)
    rejected["twin_held_out"] += num_distinct - rows.height
    rows = _with_row_ids(rows, kind)
    if is_multi_label:
        rows = rows.with_columns(lists_of_texts(rows["label"]))
    frames = {
        split: rows.filter(pl.col("split") == split).select(*columns, "row_id", "object")
        for split in ("train", "dev", "test")
    }
    label_set = LabelSet(
        kind=kind,
        **frames,
        fingerprint=_fingerprint(kind, frames),
        objects=objects,
        num_rows_read=num_rows_read,
        num_rejected={reason: count for reason, count in sorted(rejected.items()) if count},
        leakage=leakage,
        splits_given=given,
        is_multi_label=is_multi_label,
    )
    assert sum(label_set.counts().values()) == num_rows_read
    level = logging.WARNING if DEFECTS & label_set.num_rejected.keys() else logging.INFO
    log.log(level, "labels: %s, %s", kind, label_set.account())
    if to_train:
        check_enough(label_set, settings)
    return label_set


def _typed_rows(rows: pl.DataFrame, kind: LabelKind, columns: list[str]) -> pl.DataFrame:
    """Return the columns as texts, with ``split`` and ``object`` also where the frame has none.

    Raises:
        SettingsError: a column is missing.
        LabelError: a split has another name than train, dev or test.
    """
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise SettingsError(f"{kind} need the columns {', '.join(missing)}, the frame has {', '.join(rows.columns)}")
    for name in ("split", "object"):
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit(None if name == "split" else "", pl.String()).alias(name))
    rows = pl.DataFrame([as_texts(rows, name, "the frame") for name in (*columns, "split", "object")])
    try:
        return rows.with_columns(normalize_splits(rows["split"]))
    except LabelError as error:
        raise LabelError(f"column 'split' {error}") from error


def _without_repeated(
    rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings, given: frozenset[str]
) -> tuple[pl.DataFrame, Counter[str]]:
    """Drop the rows of a split that repeat another; return the others, and counts by reason. A given test set stays."""
    parts = []
    dropped: Counter[str] = Counter()
    for split in ("train", "dev", "test"):
        part = rows.filter(pl.col("split") == split)
        if part.height and not (split == "test" and "test" in given):
            part, left_out = drop_repeated(part, kind, settings, split)
            dropped.update(left_out)
        parts.append(part)
    return pl.concat(parts), dropped


def _with_row_ids(rows: pl.DataFrame, kind: LabelKind) -> pl.DataFrame:
    """Add the column ``row_id``: a hash of the content of each row."""
    content = pl.concat_str([pl.col(name).cast(pl.String) for name in COLUMNS[kind]], separator="\x1f")
    row_ids = hash_texts(rows.select(content).to_series()).bin.encode("hex").str.head(16)
    return rows.with_columns(row_ids.alias("row_id"))


def _fingerprint(kind: LabelKind, frames: dict[str, pl.DataFrame]) -> str:
    lines = sorted(f"{split} {row_id}" for split, frame in frames.items() for row_id in frame["row_id"])
    return hashlib.sha256("\n".join([kind.value, *lines]).encode()).hexdigest()
