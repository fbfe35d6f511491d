"""A classifier of texts that can have several classes at once, or none.

Its scores are those of every head (`sbert.apply.classification.head.Scorer`), each class against the rest. A class has a
calibrated probability, and a row gets every class whose probability reaches the threshold of the class. The head lies in
``OUT/_heads/FINGERPRINT/multi_label_head.safetensors`` and ``multi_label_head.json``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special
from pydantic import Field

from sbert.apply.classification.head import Float32, Float64, Scorer, ScorerRecord, scorer_tensors
from sbert.apply.classification.words import Texts
from sbert.apply.fitted_models import FittedModels, Tensors

__all__ = ["MULTI_LABEL_HEADS", "MultiLabelHead", "MultiLabelRecord", "list_scores", "sigmoid_probabilities"]

Bools = npt.NDArray[np.bool_]

SMALLEST = 1e-12
"""Probabilities count as at least this, and as at most 1 minus this, before their logarithm is taken."""


class MultiLabelRecord(ScorerRecord):
    """The record of a head beside its weights: `multi_label_head.json`."""

    slopes: list[float] = Field(description="For each class: its score is multiplied by this before it is a log-odds.")
    offsets: list[float] = Field(description="For each class: this is added afterwards.")
    thresholds: list[float] = Field(
        description="For each class: the least probability with which it is given to a row."
    )
    possible_scores: list[float] = Field(
        description="For each class: it is possible for a row where 1 minus its probability is at most this."
    )
    decisions: list[list[int]] | None = Field(
        default=None,
        description="For each class: rows that have it and got it, rows that only have it, rows that only got it, and "
        "others. Each row was decided by a head and thresholds that had not seen it. None in heads of earlier releases.",
    )
    list_slope: float = Field(description="Slope of the calibration of whole lists.")
    list_offset: float = Field(description="Offset of the calibration of whole lists.")
    abstain_below: float = Field(
        description="The head abstains where the probability of the whole list is below this; 2 for always."
    )


@dataclass(frozen=True, kw_only=True)
class MultiLabelHead(Scorer):
    """A fitted classifier that gives each row a list of classes."""

    record: MultiLabelRecord

    def probabilities(self, vectors_ND: Float32, texts: Texts | None = None, *, with_rules: bool = True) -> Float64:
        """Return the calibrated probability of each class, shape (N, C); arguments as `Scorer.scores`."""
        scores_NC = self.scores(vectors_ND, texts, with_rules=with_rules)
        return sigmoid_probabilities(scores_NC, np.array(self.record.slopes), np.array(self.record.offsets))

    def named(self, probabilities_NC: Float64) -> Bools:
        """Return the classes that each row gets, shape (N, C)."""
        return np.asarray(probabilities_NC >= np.array(self.record.thresholds))

    def possible(self, probabilities_NC: Float64) -> Bools:
        """Return the classes that are not ruled out for each row, shape (N, C); the named classes are among them."""
        return np.asarray(1 - probabilities_NC <= np.array(self.record.possible_scores)) | self.named(probabilities_NC)

    def list_probabilities(self, probabilities_NC: Float64) -> Float64:
        """Return the calibrated probability that the whole list of a row is right, shape (N,)."""
        scores_N = list_scores(probabilities_NC, self.named(probabilities_NC))
        return np.asarray(scipy.special.expit(self.record.list_slope * scores_N + self.record.list_offset), np.float64)

    def abstains(self, probabilities_NC: Float64) -> Bools:
        """Return the rows on which the head cannot keep its promised error, shape (N,)."""
        return np.asarray(self.list_probabilities(probabilities_NC) < self.record.abstain_below)

    def save(self, out_uri: str) -> None:
        """Write the head beside the output."""
        MULTI_LABEL_HEADS.save(out_uri, self.record.fingerprint, self.record, self.tensors())


def sigmoid_probabilities(scores_NC: Float64, slopes_C: Float64, offsets_C: Float64) -> Float64:
    """Return the probability of each class from its score."""
    return np.asarray(scipy.special.expit(slopes_C * scores_NC + offsets_C), np.float64)


def list_scores(probabilities_NC: Float64, named_NC: Bools) -> Float64:
    """Return the log-odds that every decision about a row is right, if the decisions were independent, shape (N,)."""
    right_NC = np.clip(np.where(named_NC, probabilities_NC, 1 - probabilities_NC), SMALLEST, 1 - SMALLEST)
    logs_N = np.minimum(np.log(right_NC).sum(axis=1), np.log1p(-SMALLEST))
    return np.asarray(logs_N - np.log(-np.expm1(logs_N)), np.float64)


def _build(content: bytes, tensors: Tensors) -> MultiLabelHead:
    record = MultiLabelRecord.model_validate_json(content)
    return MultiLabelHead(record=record, **scorer_tensors(record, tensors))


MULTI_LABEL_HEADS = FittedModels("multi_label_head", "_heads", "run `sbert classify` again", _build)
