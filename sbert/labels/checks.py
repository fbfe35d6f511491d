"""Check rows of labels: usable values, no repeats, no contradictions, enough to train on."""

from typing import Any

import polars as pl

from sbert.counted import counted
from sbert.errors import LabelError, TooFewLabelsError
from sbert.labels.class_lists import LISTS, lists_of_texts, texts_of_lists
from sbert.labels.label_kinds import COLUMNS, KEY_COLUMNS, NLI_LABELS, TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.settings import LabelSettings

__all__ = ["check_enough", "clean_rows", "drop_repeated", "fold_texts", "join_rows", "shortfall"]

SYMMETRIC = frozenset({LabelKind.SCORED_PAIRS})
FINAL_PUNCTUATION = r"[\s\p{Terminal_Punctuation}…]+$"
"""Signs at the end of a text that do not change what it says. All other signs stay: C++ is not C#, -5 is not 5."""
SCORE_TOLERANCE = 0.2
"""Two scores of one pair (scaled to 0 … 1) contradict each other when they differ by more than this."""


def clean_rows(rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings) -> tuple[pl.DataFrame, dict[str, int]]:
    """Convert labels to their types; return the usable rows, and the number of other rows by reason.

    Raises:
        LabelError: when a score is not a number or outside the declared range, or an NLI label is unknown.
    """
    texts = [pl.col(name).str.strip_chars() for name in TEXT_COLUMNS[kind]]
    rows = rows.with_columns(texts)
    empty = pl.any_horizontal([pl.col(name).is_null() | (pl.col(name) == "") for name in TEXT_COLUMNS[kind]])
    rejected = {"empty_text": rows.filter(empty).height}
    rows = rows.filter(~empty)
    missing: Any = pl.lit(False)
    if "label" in COLUMNS[kind] or "score" in COLUMNS[kind]:
        column = COLUMNS[kind][-1]
        missing = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
        if kind is LabelKind.NLI:
            missing = missing | (pl.col(column) == "-")  # SNLI writes this for pairs without a majority
    rejected["no_label"] = rows.filter(missing).height
    rows = rows.filter(~missing)
    if kind is LabelKind.SCORED_PAIRS:
        rows = _scale_scores(rows, settings)
    elif kind is LabelKind.NLI:
        rows = _name_nli(rows)
    elif kind is LabelKind.CLASSES:
        rows = rows.with_columns(pl.col("label").str.strip_chars())
    return rows, {reason: count for reason, count in rejected.items() if count}


def _scale_scores(rows: pl.DataFrame, settings: LabelSettings) -> pl.DataFrame:
    scores = rows["score"].str.strip_chars().cast(pl.Float64, strict=False)
    low, high = settings.score_min, settings.score_max
    bad = scores.is_null() | scores.is_nan() | (scores < low) | (scores > high)
    if bad.any():
        first = rows.filter(bad).row(0, named=True)
        raise LabelError(
            f"{int(bad.sum())} of {rows.height} scores are not numbers from {low:g} to {high:g}; the first is "
            f"{first['score']!r} ({first['sentence1'][:60]!r} / {first['sentence2'][:60]!r}, {first['object']}): set "
            "score_min and score_max to the labels' range, or correct the labels"
        )
    return rows.with_columns(((scores - low) / (high - low)).alias("score"))


def _name_nli(rows: pl.DataFrame) -> pl.DataFrame:
    names = {str(number): name for number, name in enumerate(NLI_LABELS)} | {name: name for name in NLI_LABELS}
    named = (
        rows["label"].str.strip_chars().str.to_lowercase().replace_strict(names, default=None, return_dtype=pl.String)
    )
    if named.has_nulls():
        odd = rows.filter(named.is_null())["label"][0]
        raise LabelError(
            f"{named.null_count()} of {rows.height} NLI labels are unknown (first: {odd!r}): write "
            f"{', '.join(NLI_LABELS)}, or 0, 1, 2 in this order"
        )
    return rows.with_columns(named.alias("label"))


def drop_repeated(
    rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings, split: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Drop rows that repeat an earlier row, and all rows of texts whose labels contradict each other.

    Raises:
        LabelError: when the share of contradicting rows is above `max_contradictions`.
    """
    keys = [fold_texts(rows[name]).alias(f"key:{name}") for name in TEXT_COLUMNS[kind]]
    keyed = rows.with_columns(keys)
    names = [key.name for key in keys]
    if kind in SYMMETRIC:
        ordered = pl.concat_list(names).list.sort().list.join("\x1f")
        keyed = keyed.with_columns(ordered.alias("key"))
    else:
        keyed = keyed.with_columns(pl.concat_str(names, separator="\x1f").alias("key"))
    if kind is LabelKind.SCORED_PAIRS:
        contradicts = (pl.col("score").max() - pl.col("score").min()).over("key") > SCORE_TOLERANCE
    elif kind in {LabelKind.NLI, LabelKind.CLASSES}:
        contradicts = pl.col("label").n_unique().over("key") > 1
    else:
        contradicts = pl.lit(False)
    keyed = keyed.with_columns(contradicts.alias("contradicts"))
    against = keyed.filter("contradicts").sort("key")
    if against.height > settings.max_contradictions * max(1, keyed.height):
        first, second = (against.row(number, named=True) for number in (0, 1))
        label = COLUMNS[kind][-1]
        raise LabelError(
            f"{against.height} of {keyed.height} {split} rows contradict another row of the same texts "
            f"({against.height / keyed.height:.2%}, limit {settings.max_contradictions:.2%}), for example "
            f"{' / '.join(first[name][:60] for name in TEXT_COLUMNS[kind])!r} is {first[label]!r} and {second[label]!r}: "
            "correct the labels, or raise labels.max_contradictions to have such rows dropped"
        )
    kept = keyed.filter(~pl.col("contradicts")).unique("key", keep="first", maintain_order=True)
    rejected = {"contradiction": against.height, "repeated": keyed.height - against.height - kept.height}
    return kept.select(rows.columns), {reason: count for reason, count in rejected.items() if count}


def join_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Join the rows of one text and split: the first stays, with the classes of all of them."""
    keyed = rows.with_columns(
        fold_texts(rows["text"]).alias("key:text"), lists_of_texts(rows["label"]).alias("key:label")
    )
    joined = keyed.group_by("key:text", "split", maintain_order=True).agg(
        pl.all().exclude("key:label").first(), pl.col("key:label").explode(empty_as_null=False, keep_nulls=False)
    )
    return joined.with_columns(texts_of_lists(joined["key:label"].cast(LISTS)).alias("label")).select(rows.columns)


def fold_texts(texts: pl.Series) -> pl.Series:
    """Return texts by which repeated labels are recognised: without case, extra white space and final punctuation.

    A text of nothing but white space and punctuation stays as it is.
    """
    folded = texts.str.normalize("NFC").str.to_lowercase().str.replace(FINAL_PUNCTUATION, "")
    folded = folded.str.replace_all(r"\s+", " ").str.strip_chars(" ")
    return folded.set(folded == "", None).fill_null(texts)


def shortfall(labels: LabelSet, settings: LabelSettings) -> tuple[str, str] | None:
    """Return what the train rows lack to be learned from, and the remedy; None when they are enough.

    They lack something when there are too few rows, or only one class or one score.
    """
    train, kind = labels.train, labels.kind
    assert set(KEY_COLUMNS[kind]) <= set(train.columns)
    if train.height < settings.min_train_rows:
        rows = counted(train.height, "row")
        return (
            f"{rows} to train on, but at least {settings.min_train_rows} are needed (min_train_rows)",
            f"label more. {labels.account()}",
        )
    if labels.is_multi_label and train["label"].n_unique() < 2:
        only = ", ".join(train["label"][0])
        return (
            f"all {train.height} train rows have {f'the same classes, {only}' if only else 'an empty list of classes'}",
            "label texts that have a class, and texts that do not have it",
        )
    if kind is LabelKind.CLASSES and train["label"].n_unique() < 2:
        return (
            f"all {train.height} train rows are of one class, {train['label'][0]!r}",
            "label texts of at least 2 classes",
        )
    if kind is LabelKind.SCORED_PAIRS and train["score"].n_unique() < 2:
        return (
            f"all {train.height} train rows have the score {train['score'][0]:g} (scaled to 0 … 1)",
            "label pairs with different scores",
        )
    return None


def check_enough(labels: LabelSet, settings: LabelSettings) -> None:
    """Check that there is enough to learn from.

    Raises:
        TooFewLabelsError: when there are too few rows, or only one class or one score.
    """
    lack = shortfall(labels, settings)
    if lack is not None:
        raise TooFewLabelsError(": ".join(lack))
