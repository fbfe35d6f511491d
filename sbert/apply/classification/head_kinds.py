"""The two kinds of heads behind one set of functions: one class a row, and several classes a row."""

from collections.abc import Mapping, Sequence

import polars as pl

from sbert.apply.classification.fit import HeadClassifier, HeadOrigin, HeadRules, fit_head
from sbert.apply.classification.head import HEADS, Float32, Head
from sbert.apply.classification.learned_rows import DecidingRows
from sbert.apply.classification.multi_label_fit import fit_multi_label_head
from sbert.apply.classification.multi_label_head import MULTI_LABEL_HEADS, MultiLabelHead
from sbert.apply.classification.multi_label_quality import (
    MultiLabelQuality,
    difference_of_macro_f1,
    measure_multi_label_head,
)
from sbert.apply.classification.quality import HeadQuality, compared_macro_f1, measure_head
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.words import HeadWords
from sbert.evaluation.metric import Interval, difference_interval

__all__ = ["AnyHead", "Quality", "compare_heads", "find_head", "fit_any", "is_multi_label", "measure", "speaking_terms"]

AnyHead = Head | MultiLabelHead
Quality = HeadQuality | MultiLabelQuality

NUM_RESAMPLES = 1_000
CONFIDENCE = 0.95


def is_multi_label(head: AnyHead) -> bool:
    """Return whether a head gives lists of classes."""
    return isinstance(head, MultiLabelHead)


def find_head(out_uri: str, fingerprint: str, *, multi_label: bool) -> AnyHead | None:
    """Read a head of one of the kinds; None when there is none of this name.

    Raises:
        TableError: its files are damaged.
    """
    return (MULTI_LABEL_HEADS if multi_label else HEADS).find(out_uri, fingerprint)


def fit_any(
    vectors_ND: Float32,
    labels: pl.Series,
    settings: HeadSettings,
    origin: HeadOrigin,
    *,
    rules: HeadRules | None,
    words: HeadWords | None,
    classifier: HeadClassifier | None,
    deciding: DecidingRows | None,
    search_uri: str | None,
) -> AnyHead:
    """Fit the kind of head that the labels ask for: lists of classes, or one class a row.

    Raises:
        TooFewLabelsError: as `fit_head` and `fit_multi_label_head`, whose arguments these are.
    """
    if labels.dtype.is_nested():
        assert classifier is None  # it gives one class to a text
        return fit_multi_label_head(
            vectors_ND,
            labels.to_list(),
            settings,
            origin,
            rules=rules,
            words=words,
            deciding=deciding,
            search_uri=search_uri,
        )
    return fit_head(
        vectors_ND,
        labels.to_list(),
        settings,
        origin,
        rules=rules,
        words=words,
        classifier=classifier,
        deciding=deciding,
        search_uri=search_uri,
    )


def measure(
    head: AnyHead, vectors_ND: Float32, test: pl.DataFrame, groups: Mapping[str, Sequence[str | None]]
) -> Quality | None:
    """Measure a head on held-out rows with the columns ``text`` and ``label``; None without rows."""
    labels, texts = test["label"].to_list(), test["text"].to_list()
    if isinstance(head, MultiLabelHead):
        return measure_multi_label_head(head, vectors_ND, labels, texts, groups)
    return measure_head(head, vectors_ND, labels, texts, groups)


def compare_heads(new: AnyHead, old: AnyHead, vectors_ND: Float32, test: pl.DataFrame) -> tuple[float, float, Interval]:
    """Return macro-F1 of two heads of one kind on held-out rows, and the gain with its interval."""
    labels, texts = test["label"].to_list(), test["text"]
    if isinstance(new, MultiLabelHead):
        assert isinstance(old, MultiLabelHead)
        return difference_of_macro_f1(
            new, old, vectors_ND, labels, texts.to_list(), num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE
        )
    after, before = compared_macro_f1(labels, [(head.classes, head.scores(vectors_ND, texts)) for head in (new, old)])
    gain = difference_interval(after, before, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=0)
    return after.value, before.value, gain


def speaking_terms(head: AnyHead) -> dict[str, list[str]]:
    """Return for each class the terms that speak for it most; empty for a head without words."""
    if head.words is None:
        return {}
    return head.words.speaking(head.classes, against_others=not is_multi_label(head))
