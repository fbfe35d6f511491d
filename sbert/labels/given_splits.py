"""Train, dev and test as the source names them: by a column of the rows, or by the name of an object."""

import logging

import polars as pl

from sbert.errors import ColumnError, LabelError
from sbert.labels.settings import LabelSettings
from sbert.source.formats.base import there_are
from sbert.storage.files import base_name

__all__ = ["column_split", "named_split", "normalize_splits"]

log = logging.getLogger(__name__)

NAME_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "eval": "dev",
    "test": "test",
}
"""Words that name a split in the name of an object or folder."""
COLUMN_WORDS = {**NAME_WORDS, "development": "dev", "evaluation": "dev", "validate": "dev", "testing": "test"}
"""Values that name a split in a column. Object names use fewer words: a folder ``development`` may mean anything."""
COLUMN = "split"
"""Column that is taken for the split without being named in the settings."""


def named_split(uri: str) -> str | None:
    """Return the split that a word of an object's name says, or the whole name of its folder.

    ``stsb-en-dev.csv`` and ``dev/part-0.csv`` are dev.
    """
    words = base_name(uri).lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
    splits = {NAME_WORDS[word] for word in words if word in NAME_WORDS}
    if len(splits) == 1:
        return splits.pop()
    folder = base_name(uri.rsplit("/", 1)[0]) if "/" in uri else ""
    return NAME_WORDS.get(folder.lower()) if not splits else None


def column_split(values: pl.Series | None, columns: list[str], uri: str, settings: LabelSettings) -> pl.Series | None:
    """Return the split of each row by a column, null where the column is empty; None when no column says it.

    A column called ``split`` is used without being named, so that test rows of a public data set are not trained on.

    Args:
        values: the column ``split_column`` or, when the settings name none, the column ``split``, as text; None when the
            object does not have it.
        columns: the object's columns, for the error.
        uri: the object, for errors and the log.
        settings: the setting ``split_column`` names a column; ``use_given_splits`` turns an unnamed one off.

    Raises:
        ColumnError: when the column that the settings name is missing.
        LabelError: when the column holds words for splits and other values as well.
    """
    name = settings.split_column or COLUMN
    if values is None:
        if settings.split_column is not None:
            raise ColumnError(f"{uri}: no column {name!r} (split_column), {there_are(columns, name)}")
        return None
    if settings.split_column is None:
        words = set(_words(values).drop_nulls())
        if not settings.use_given_splits:
            log.info("%s: column 'split' is not used as the split (use_given_splits=false)", uri)
            return None
        if not words & COLUMN_WORDS.keys():
            log.info("%s: column 'split' holds no word for a split (%s), it is not used", uri, ", ".join(COLUMN_WORDS))
            return None
    try:
        splits = normalize_splits(values)
    except LabelError as error:
        raise LabelError(
            f"{uri}: column {name!r} {error}; correct the values, or set use_given_splits=false and no split_column to "
            "split the rows by hash"
        ) from error
    counts = ", ".join(f"{count:,} {split or 'empty'}" for split, count in splits.value_counts(sort=True).iter_rows())
    log.info("%s: column %r is the split of each row (%s)", uri, name, counts)
    return splits


def normalize_splits(values: pl.Series) -> pl.Series:
    """Return train, dev or test for each value such as ``Validation``; null where the value is empty.

    Raises:
        LabelError: when a value is not the word for a split.
    """
    words = _words(values)
    unknown = sorted(set(words.drop_nulls()) - COLUMN_WORDS.keys())
    if unknown:
        raise LabelError(f"holds {unknown[0]!r}, the words for a split are {', '.join(COLUMN_WORDS)}")
    return words.replace_strict(COLUMN_WORDS, default=None, return_dtype=pl.String).alias("split")


def _words(values: pl.Series) -> pl.Series:
    words = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    return words.replace("", None)
