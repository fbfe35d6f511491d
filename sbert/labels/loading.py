"""From a folder of labels to a `LabelSet`."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable

import polars as pl

from sbert.cleaning import hash_texts
from sbert.errors import SettingsError
from sbert.labels.checks import check_enough, clean_rows, drop_repeated
from sbert.labels.kinds import COLUMNS, LabelKind
from sbert.labels.label_set import LabelObject, LabelSet
from sbert.labels.reading import read_labels
from sbert.labels.settings import LabelSettings
from sbert.labels.splitting import assign_splits, leave_out_twins
from sbert.source import SourceObject, list_objects

__all__ = ["list_label_objects", "load_labels", "make_label_set", "new_label_objects"]

log = logging.getLogger(__name__)


def list_label_objects(uri: str) -> list[SourceObject]:
    """Give the objects of labels under a file, folder or glob, ordered by URI.

    Raises:
        MissingError, EmptySourceError, StorageError: as `list_objects`.
    """
    return list_objects(uri)


def new_label_objects(objects: Iterable[SourceObject], known: frozenset[str]) -> list[SourceObject]:
    """Give the objects that are not in `known` (`LabelSet.object_keys` of an earlier run): wanted - have."""
    return [item for item in objects if LabelObject(item.uri, item.version, 0).key not in known]


def load_labels(uri: str, settings: LabelSettings | None = None) -> LabelSet:
    """Read, check and split the labels under a file, folder or glob.

    Raises:
        MissingError, EmptySourceError, StorageError: nothing there, or storage refused.
        ColumnError, BrokenObjectError: an object cannot be read as labels.
        LabelError: the labels are wrong (its subclasses: they leak, or are too few).
    """
    settings = settings or LabelSettings()
    kind, rows, objects = read_labels(list_label_objects(uri), settings)
    return make_label_set(rows, kind, settings, objects=tuple(objects))


def make_label_set(
    rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings | None = None, *, objects: tuple[LabelObject, ...] = ()
) -> LabelSet:
    """Check and split rows with the columns of `kind`, and ``split`` and ``object`` where known; values may be text.

    Raises:
        SettingsError: when a column is missing.
        LabelError: the labels are wrong (its subclasses: they leak, or are too few).
    """
    settings = settings or LabelSettings()
    missing = [name for name in COLUMNS[kind] if name not in rows.columns]
    if missing:
        raise SettingsError(f"{kind} need the columns {', '.join(missing)}, the frame has {', '.join(rows.columns)}")
    for name in ("split", "object"):
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit(None if name == "split" else "", pl.String()).alias(name))
    rows = rows.select(*(pl.col(name).cast(pl.String) for name in (*COLUMNS[kind], "split", "object")))
    num_rows_read = rows.height
    rejected: Counter[str] = Counter()
    rows, found = clean_rows(rows, kind, settings)
    rejected.update(found)
    given = "test" in rows["split"].drop_nulls().unique().to_list()
    rows = assign_splits(rows, kind, settings)
    parts = []
    for split in ("train", "dev", "test"):
        part = rows.filter(pl.col("split") == split)
        if part.height and not (given and split == "test"):  # a given test set is scored as it is
            part, found = drop_repeated(part, kind, settings, split)
            rejected.update(found)
        parts.append(part)
    rows, leakage = leave_out_twins(pl.concat(parts), kind, settings, given=given)
    rejected["twin_held_out"] += sum(part.height for part in parts) - rows.height
    content = pl.concat_str([pl.col(name).cast(pl.String) for name in COLUMNS[kind]], separator="\x1f")
    row_ids = hash_texts(rows.select(content).to_series()).bin.encode("hex").str.head(16)
    rows = rows.with_columns(row_ids.alias("row_id"))
    frames = {
        split: rows.filter(pl.col("split") == split).select(*COLUMNS[kind], "row_id", "object")
        for split in ("train", "dev", "test")
    }
    check_enough(frames["train"], kind, settings)
    label_set = LabelSet(
        kind=kind,
        **frames,
        fingerprint=_fingerprint(kind, frames),
        objects=objects,
        num_rows_read=num_rows_read,
        num_rejected={reason: count for reason, count in sorted(rejected.items()) if count},
        leakage=leakage,
        splits_given=given,
    )
    assert sum(label_set.counts().values()) == num_rows_read
    log.info("labels: %s, %s", kind, label_set.counts())
    return label_set


def _fingerprint(kind: LabelKind, frames: dict[str, pl.DataFrame]) -> str:
    lines = sorted(f"{split} {row_id}" for split, frame in frames.items() for row_id in frame["row_id"])
    return hashlib.sha256("\n".join([kind.value, *lines]).encode()).hexdigest()
