"""The default metric that compares checkpoints: one number for each encoder, higher is better."""

from collections.abc import Callable
from typing import assert_never

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import TooFewLabelsError
from sbert.evaluation.statistics import spearman
from sbert.labels.label_kinds import LabelKind, side_of
from sbert.labels.label_set import LabelSet
from sbert.training.training_data import NLI_SCORES
from sbert.vectors.unit import unit_rows

__all__ = ["default_dev_metric"]

MAX_ROWS = 2_000
TEXTS_PER_CLASS = 32
SAME_COSINE = 1e-6
"""Cosines that differ by less are equal: float32 rounds them."""
HALVES = {"first": pl.String, "second": pl.String}

Vectors = npt.NDArray[np.float32]


def default_dev_metric(labels: LabelSet) -> Callable[[SentenceEncoder], float]:
    """Return the function that scores an encoder on ``labels.dev``.

    Scored pairs: Spearman's rank correlation of cosine and score. NLI: the same, with 1, 0.5, 0 for entailment, neutral,
    contradiction. Triplets: share of anchors nearer to the positive. Pairs: mean reciprocal rank of the positive among all
    dev positives. Classes: accuracy of the nearest class centre of train texts. Texts: mean reciprocal rank of a text's
    second half among all second halves, with the first half as the query. At equal cosines the right answer ranks last.

    Raises:
        TooFewLabelsError: when the dev rows give every encoder the same score.
    """
    dev = labels.dev.sort("row_id").head(MAX_ROWS)
    _check_contrast(labels, dev)
    match labels.kind:
        case LabelKind.SCORED_PAIRS:
            scores = dev["score"].to_numpy()
            return lambda encoder: _rank_correlation(encoder, dev["sentence1"], dev["sentence2"], scores)
        case LabelKind.NLI:
            scores = dev["label"].replace_strict(NLI_SCORES, return_dtype=pl.Float32).to_numpy()
            return lambda encoder: _rank_correlation(encoder, dev["premise"], dev["hypothesis"], scores)
        case LabelKind.TRIPLETS:
            return lambda encoder: _triplet_accuracy(encoder, dev)
        case LabelKind.PAIRS:
            return lambda encoder: _reciprocal_rank(encoder, dev["anchor"], dev["positive"], asked_by=Side.QUERY)
        case LabelKind.CLASSES:
            train = labels.train.sort("row_id").group_by("label", maintain_order=True).head(TEXTS_PER_CLASS)
            return lambda encoder: _centre_accuracy(encoder, train, dev)
        case LabelKind.TEXTS:
            halves = _halves(dev["text"])
            return lambda encoder: _reciprocal_rank(encoder, halves["first"], halves["second"], asked_by=Side.DOCUMENT)
        case _:
            assert_never(labels.kind)


def _check_contrast(labels: LabelSet, dev: pl.DataFrame) -> None:
    """Check that the dev rows can tell one encoder from another.

    Raises:
        TooFewLabelsError: when every encoder would have the same score on them.
    """
    kind = labels.kind
    if kind in {LabelKind.SCORED_PAIRS, LabelKind.NLI}:
        column = "score" if kind is LabelKind.SCORED_PAIRS else "label"
        differing, what = dev[column].n_unique(), f"different {column}s"
    elif kind is LabelKind.PAIRS:
        differing, what = dev["positive"].n_unique(), "different positives"
    elif kind is LabelKind.TEXTS:
        differing, what = _halves(dev["text"])["second"].n_unique(), "different texts of two words or more"
    elif kind is LabelKind.CLASSES:
        shared = set(dev["label"]) & set(labels.train["label"])
        differing, what = (2 if shared else 0), "classes that occur in train"
    else:
        return
    if differing < 2:
        raise TooFewLabelsError(
            f"the {dev.height:,} dev rows have {differing} {what}, so that every encoder has the same dev metric: add dev "
            "rows, or leave dev out (dev_share=0) to keep the last checkpoint"
        )


def _halves(texts: pl.Series) -> pl.DataFrame:
    """Return the first and the second half of each text of two words or more."""
    words = [text.split() for text in texts]
    cut = [(len(each) + 1) // 2 for each in words]
    first = [" ".join(each[:middle]) for each, middle in zip(words, cut, strict=True)]
    second = [" ".join(each[middle:]) for each, middle in zip(words, cut, strict=True)]
    return pl.DataFrame({"first": first, "second": second}, schema_overrides=HALVES).filter(pl.col("second") != "")


def _unit(encoder: SentenceEncoder, texts: pl.Series, side: Side) -> Vectors:
    return unit_rows(encoder.encode(texts, side=side))


def _rank_correlation(
    encoder: SentenceEncoder, first: pl.Series, second: pl.Series, scores: npt.NDArray[np.floating]
) -> float:
    cosines = (_unit(encoder, first, Side.DOCUMENT) * _unit(encoder, second, Side.DOCUMENT)).sum(axis=1)
    return float(spearman(cosines, scores))


def _triplet_accuracy(encoder: SentenceEncoder, dev: pl.DataFrame) -> float:
    anchor, positive, negative = (
        _unit(encoder, dev[name], side_of(name)) for name in ("anchor", "positive", "negative")
    )
    return float(((anchor * positive).sum(axis=1) > (anchor * negative).sum(axis=1)).mean())


def _reciprocal_rank(encoder: SentenceEncoder, queries: pl.Series, answers: pl.Series, *, asked_by: Side) -> float:
    distinct = answers.unique(maintain_order=True)
    own = pl.DataFrame({"text": answers}).join(
        pl.DataFrame({"text": distinct}).with_row_index("number"), on="text", maintain_order="left"
    )["number"]
    scores = _unit(encoder, queries, asked_by) @ _unit(encoder, distinct, Side.DOCUMENT).T
    of_own = scores[np.arange(len(scores)), own.to_numpy()]
    ranks = (scores >= of_own[:, None] - SAME_COSINE).sum(axis=1)  # the answer itself is one of them
    return float((1.0 / ranks).mean())


def _centre_accuracy(encoder: SentenceEncoder, train: pl.DataFrame, dev: pl.DataFrame) -> float:
    classes, numbers = np.unique(train["label"].to_numpy(), return_inverse=True)
    vectors = _unit(encoder, train["text"], Side.DOCUMENT)
    sums = np.zeros((len(classes), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, numbers, vectors)
    centres = unit_rows(sums)
    predicted = classes[(_unit(encoder, dev["text"], Side.DOCUMENT) @ centres.T).argmax(axis=1)]
    return float((predicted == dev["label"].to_numpy()).mean())
