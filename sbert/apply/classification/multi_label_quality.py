"""Measure a head of several classes a row on labelled rows that it has not seen, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.calibration import calibration_error
from sbert.apply.classification.head import Float32, Float64
from sbert.apply.classification.multi_label_fit import truth_matrix
from sbert.apply.classification.multi_label_head import MultiLabelHead
from sbert.apply.classification.quality import (
    CONFIDENCE,
    MIN_BIN_ROWS,
    NUM_BINS,
    NUM_RESAMPLES,
    NUM_WRONG,
    ClassQuality,
    GroupQuality,
    Share,
    class_quality,
    f1_share,
    measure_groups,
    mover,
    risk_curve,
    share,
    share_of,
)
from sbert.evaluation.metric import Interval

__all__ = ["MultiLabelQuality", "WrongList", "difference_of_macro_f1", "measure_multi_label_head"]

Bools = npt.NDArray[np.bool_]
RELIABILITY_EDGES = np.linspace(0, 1, 11)


class WrongList(BaseModel):
    """A row whose list the head is sure about, and wrong."""

    model_config = ConfigDict(frozen=True)

    text: str
    truth: list[str]
    named: list[str]
    probability: float = Field(description="Probability that the list is right.")


class MultiLabelQuality(BaseModel):
    """A head of several classes a row on held-out rows."""

    model_config = ConfigDict(frozen=True)

    num_rows: int
    subset_accuracy: Share = Field(description="Rows whose whole list is right.")
    micro_f1: Share = Field(description="F1 over all decisions about a class and a row.")
    macro_f1: Share = Field(description="Mean F1 of the classes.")
    calibration_error: float = Field(
        description="Mean over the classes of the expected calibration error of their probabilities, each over up to "
        f"{NUM_BINS} bins of equally many rows."
    )
    possible_coverage: Share | None = Field(
        description="Classes of the rows that are among their possible classes; None where no row has a class."
    )
    mean_possible: float = Field(description="Possible classes of a row (classes).")
    answered: Share = Field(description="Rows on which the head does not abstain.")
    answered_error: Share | None = Field(description="Wrong lists among them; None without any.")
    classes: list[ClassQuality]
    groups: list[GroupQuality] = Field(description="The error of a group is the share of its rows with a wrong list.")
    wrong: list[WrongList] = Field(description="The rows whose list is most surely wrong.")
    reliability: list[tuple[float, float, int]] = Field(
        description="Bins of decisions about a class and a row: mean probability, share of true ones, decisions."
    )
    risk: list[tuple[float, float]] = Field(description="Share of rows answered, and the wrong lists among them.")


@dataclass(frozen=True)
class Decisions:
    """Which of C classes each of N rows has, and which it was given."""

    truth_NC: Bools
    named_NC: Bools

    def macro_f1(self, weights_BN: Float64) -> Float64:
        """Return the mean F1 of the classes that occur in truth or decisions, for each weighting of the rows."""
        hits_BC, totals_BC = self._sums(weights_BN)
        f1_BC = 2 * hits_BC / np.maximum(totals_BC, 1)
        return np.asarray(f1_BC.sum(axis=1) / np.maximum((totals_BC > 0).sum(axis=1), 1))

    def micro_f1(self, weights_BN: Float64) -> Float64:
        """Return F1 over all decisions, for each weighting of the rows."""
        hits_BC, totals_BC = self._sums(weights_BN)
        return np.asarray(2 * hits_BC.sum(axis=1) / np.maximum(totals_BC.sum(axis=1), 1))

    def _sums(self, weights_BN: Float64) -> tuple[Float64, Float64]:
        """Return, for each class, the correct predictions, and the sum of true and predicted rows; both of shape (B, C)."""
        hits_NC = (self.truth_NC & self.named_NC).astype(np.float64)
        return weights_BN @ hits_NC, weights_BN @ (self.truth_NC.astype(np.float64) + self.named_NC)


def measure_multi_label_head(
    head: MultiLabelHead,
    vectors_ND: Float32,
    labels: Sequence[Sequence[str]],
    texts: Sequence[str],
    groups: Mapping[str, Sequence[str | None]] | None = None,
) -> MultiLabelQuality | None:
    """Measure a head; None without rows.

    Args:
        head: the head.
        vectors_ND: vectors of N rows that it has not seen.
        labels: the classes of each. A class that the head does not know counts as missed.
        texts: the rows, to show them.
        groups: values of further columns, for errors by group; None for rows of no group.
    """
    if not labels:
        return None
    probabilities_NC = head.probabilities(vectors_ND, texts)
    names, decisions = _decisions(head, probabilities_NC, labels, ())
    num_known = len(head.classes)
    truth_NC, named_NC = decisions.truth_NC, decisions.named_NC
    right_N = (truth_NC == named_NC).all(axis=1)
    list_N = head.list_probabilities(probabilities_NC)
    answered_N = ~head.abstains(probabilities_NC)
    possible_NC = np.zeros_like(truth_NC)
    possible_NC[:, :num_known] = head.possible(probabilities_NC)
    num_bins = min(NUM_BINS, max(1, len(labels) // MIN_BIN_ROWS))
    surest = np.argsort(np.where(right_N, np.inf, -list_N), kind="stable")[:NUM_WRONG]
    return MultiLabelQuality(
        num_rows=len(labels),
        subset_accuracy=share_of(right_N),
        micro_f1=_micro_share(decisions),
        macro_f1=_macro_share(decisions),
        calibration_error=float(
            np.mean([calibration_error(probabilities_NC[:, at], truth_NC[:, at], num_bins) for at in range(num_known)])
        ),
        possible_coverage=share(int((truth_NC & possible_NC).sum()), int(truth_NC.sum())),
        mean_possible=float(possible_NC.sum(axis=1).mean()),
        answered=share_of(answered_N),
        answered_error=share(int((~right_N & answered_N).sum()), int(answered_N.sum())),
        classes=[class_quality(name, truth_NC[:, at], named_NC[:, at]) for at, name in enumerate(names)],
        groups=measure_groups(groups or {}, right_N, answered_N),
        wrong=[
            WrongList(
                text=texts[row],
                truth=sorted(labels[row]),
                named=[names[at] for at in np.flatnonzero(named_NC[row])],
                probability=float(list_N[row]),
            )
            for row in surest.tolist()
            if not right_N[row]
        ],
        reliability=_reliability(probabilities_NC, truth_NC[:, :num_known]),
        risk=risk_curve(list_N, right_N),
    )


def difference_of_macro_f1(
    after: MultiLabelHead,
    before: MultiLabelHead,
    vectors_ND: Float32,
    labels: Sequence[Sequence[str]],
    texts: Sequence[str],
    *,
    num_resamples: int,
    confidence: float,
) -> tuple[float, float, Interval]:
    """Return macro-F1 of two heads on the same N rows, and their difference with its paired bootstrap interval.

    Args:
        after: the new head.
        before: the head that is compared with.
        vectors_ND: vectors of the rows.
        labels: their classes.
        texts: their texts.
        num_resamples: resamples of the rows, with replacement.
        confidence: of the interval (0 to 1).
    """
    classes = {*after.classes, *before.classes}
    ours, theirs = (
        _decisions(head, head.probabilities(vectors_ND, texts), labels, classes)[1] for head in (after, before)
    )
    all_rows, weights_BN = np.ones((1, len(labels))), _resamples(len(labels), num_resamples)
    new, old = float(ours.macro_f1(all_rows)[0]), float(theirs.macro_f1(all_rows)[0])
    low, high = _quantiles(ours.macro_f1(weights_BN) - theirs.macro_f1(weights_BN), confidence)
    return new, old, Interval(new - old, low, high)


def _decisions(
    head: MultiLabelHead, probabilities_NC: Float64, labels: Sequence[Sequence[str]], others: Sequence[str] | set[str]
) -> tuple[list[str], Decisions]:
    """Return the classes of head, labels and others, the head's own first, and the decisions about them."""
    own = set(head.classes)
    names = [*head.classes, *sorted({*(name for row in labels for name in row), *others} - own)]
    named_NC = np.zeros((len(labels), len(names)), bool)
    named_NC[:, : len(own)] = head.named(probabilities_NC)
    return names, Decisions(truth_matrix(labels, names) > 0, named_NC)


def _resamples(num_rows: int, num_resamples: int) -> Float64:
    """Return how often each row is in each resample, shape (B, N)."""
    random = np.random.default_rng(0)
    return random.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=num_resamples).astype(np.float64)


def _quantiles(values_B: Float64, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    return float(np.quantile(values_B, tail)), float(np.quantile(values_B, 1 - tail))


def _micro_share(decisions: Decisions) -> Share:
    """Return micro-F1 with the wider of two intervals: the bootstrap of rows, and Wilson's of all decisions."""
    truth_NC, named_NC = decisions.truth_NC, decisions.named_NC
    alone = f1_share(int((truth_NC & named_NC).sum()), int((truth_NC | named_NC).sum()))
    if alone is None:  # no row has a class, and none was given one
        return Share(value=0.0, low=0.0, high=1.0)
    low, high = _quantiles(decisions.micro_f1(_resamples(len(truth_NC), NUM_RESAMPLES)), CONFIDENCE)
    return Share(value=alone.value, low=min(low, alone.low), high=max(high, alone.high))


def _macro_share(decisions: Decisions) -> Share:
    """Return macro-F1 with the wider of two intervals: the bootstrap of rows, and that of the classes together."""
    truth_NC, named_NC = decisions.truth_NC, decisions.named_NC
    hits_C, either_C = (truth_NC & named_NC).sum(axis=0), (truth_NC | named_NC).sum(axis=0)
    parts = [
        part
        for hits, either in zip(hits_C.tolist(), either_C.tolist(), strict=True)
        if (part := f1_share(hits, either))
    ]
    value = float(decisions.macro_f1(np.ones((1, len(truth_NC))))[0])
    if not parts:
        return Share(value=value, low=0.0, high=1.0)
    low, high = _quantiles(decisions.macro_f1(_resamples(len(truth_NC), NUM_RESAMPLES)), CONFIDENCE)
    below, above = mover(parts)
    return Share(value=value, low=max(0.0, min(low, value - below)), high=min(1.0, max(high, value + above)))


def _reliability(probabilities_NC: Float64, truth_NC: Bools) -> list[tuple[float, float, int]]:
    """Return bins of equal width over all decisions about a class and a row; empty ones are left out."""
    flat, true = probabilities_NC.ravel(), truth_NC.ravel()
    bins = np.clip(np.digitize(flat, RELIABILITY_EDGES) - 1, 0, len(RELIABILITY_EDGES) - 2)
    return [
        (float(flat[bins == at].mean()), float(true[bins == at].mean()), int((bins == at).sum()))
        for at in np.unique(bins).tolist()
    ]
