"""Measure a head on labelled rows that it has not seen, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.calibration import calibration_error
from sbert.apply.classification.head import Float32, Float64, Head
from sbert.evaluation import statistics
from sbert.evaluation.metric import Metric, interval

__all__ = [
    "ClassQuality",
    "GroupQuality",
    "HeadQuality",
    "Share",
    "WrongRow",
    "class_quality",
    "f1_share",
    "group_gap",
    "macro_f1",
    "macro_f1_share",
    "measure_groups",
    "measure_head",
    "mover",
    "resampled",
    "risk_curve",
    "share",
    "share_of",
]

CONFIDENCE = 0.95
NUM_RESAMPLES = 500
NUM_WRONG = 10
NUM_BINS = 15
MIN_BIN_ROWS = 10
"""Rows of a bin, at least; fewer held-out rows make fewer bins."""
MIN_GROUP_ROWS = 20
"""Groups with fewer rows are shown, but say too little to refuse a head."""

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


class Share(BaseModel):
    """A value between 0 and 1 with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


class ClassQuality(BaseModel):
    """Quality of one class against all others."""

    model_config = ConfigDict(frozen=True)

    label: str
    num_rows: int = Field(description="Rows whose true class it is.")
    precision: Share | None = Field(description="None where the class was never named.")
    recall: Share | None = Field(description="None without rows.")
    f1: Share | None = Field(description="None without rows, if it was never named either.")


class GroupQuality(BaseModel):
    """Errors and abstentions among the rows of one value of a column."""

    model_config = ConfigDict(frozen=True)

    column: str
    value: str = Field(description="Empty for rows without a value.")
    num_rows: int
    error: Share
    abstained: Share
    gap: Share = Field(description="Its error minus that of all rows of other groups.")


class WrongRow(BaseModel):
    """A row that the head is sure about, and wrong."""

    model_config = ConfigDict(frozen=True)

    text: str
    truth: str
    predicted: str
    probability: float


class HeadQuality(BaseModel):
    """A head on held-out rows."""

    model_config = ConfigDict(frozen=True)

    num_rows: int
    accuracy: Share
    macro_f1: Share
    calibration_error: float = Field(
        description=f"Expected calibration error over up to {NUM_BINS} bins of equally many rows, {MIN_BIN_ROWS} at least."
    )
    set_coverage: Share = Field(description="Rows whose set holds the true class.")
    mean_set_size: float = Field(description="Classes in a set (classes).")
    answered: Share = Field(description="Rows on which the head does not abstain.")
    answered_error: Share | None = Field(description="Wrong classes among them; None without any.")
    classes: list[ClassQuality]
    confusion: list[list[int]] = Field(
        description="Rows of each true class by predicted class, in the order of `classes`."
    )
    groups: list[GroupQuality]
    wrong: list[WrongRow] = Field(description="The rows that are most surely wrong.")
    reliability: list[tuple[float, float, int]] = Field(description="Bins: mean probability, share right, rows.")
    risk: list[tuple[float, float]] = Field(description="Share of rows answered, and the error among them.")


def share(count: int, total: int) -> Share | None:
    """Return a share with its interval (Wilson 1927); None of nothing."""
    if total == 0:
        return None
    interval_of_share = scipy.stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Share(value=count / total, low=float(interval_of_share.low), high=float(interval_of_share.high))


def measure_head(
    head: Head,
    vectors_ND: Float32,
    labels: Sequence[str],
    texts: Sequence[str],
    groups: Mapping[str, Sequence[str | None]] | None = None,
) -> HeadQuality | None:
    """Measure a head; None without rows.

    Args:
        head: the head.
        vectors_ND: vectors of N rows that it has not seen.
        labels: their classes. A class that the head does not know counts as an error.
        texts: the rows, to show them.
        groups: values of further columns, for errors by group; None for rows of no group.
    """
    if not labels:
        return None
    probabilities_NC = head.probabilities(vectors_ND, texts)
    names = [*head.classes, *sorted(set(labels) - set(head.classes))]
    number = {name: at for at, name in enumerate(names)}
    truth_N = np.array([number[label] for label in labels], np.int64)
    predicted_N = probabilities_NC.argmax(axis=1).astype(np.int64)
    confidence_N = probabilities_NC.max(axis=1)
    right_N = truth_N == predicted_N
    answered_N = ~head.abstains(probabilities_NC)
    sets_NC = head.sets(probabilities_NC)
    num_bins = min(NUM_BINS, max(1, len(labels) // MIN_BIN_ROWS))
    is_known = truth_N < len(head.classes)
    covered_N = is_known & sets_NC[np.arange(len(truth_N)), np.where(is_known, truth_N, 0)]
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth_N, predicted_N), 1)
    return HeadQuality(
        num_rows=len(labels),
        accuracy=share_of(right_N),
        macro_f1=macro_f1_share(truth_N, predicted_N),
        calibration_error=calibration_error(confidence_N, right_N, num_bins),
        set_coverage=share_of(covered_N),
        mean_set_size=float(sets_NC.sum(axis=1).mean()),
        answered=share_of(answered_N),
        answered_error=share(int((~right_N & answered_N).sum()), int(answered_N.sum())),
        classes=[class_quality(name, truth_N == at, predicted_N == at) for name, at in number.items()],
        confusion=confusion.tolist(),
        groups=measure_groups(groups or {}, right_N, answered_N),
        wrong=[
            WrongRow(
                text=texts[row],
                truth=labels[row],
                predicted=names[predicted_N[row]],
                probability=float(confidence_N[row]),
            )
            for row in np.argsort(np.where(right_N, np.inf, -confidence_N), kind="stable")[:NUM_WRONG].tolist()
            if not right_N[row]
        ],
        reliability=[
            (float(confidence_N[part].mean()), float(right_N[part].mean()), len(part))
            for part in np.array_split(np.argsort(confidence_N, kind="stable"), num_bins)
        ],
        risk=risk_curve(confidence_N, right_N),
    )


def macro_f1(truth_N: Int64, predicted_N: Int64) -> Metric:
    """Return macro-F1 as a metric that can be resampled."""
    return Metric("macro_f1", (truth_N, predicted_N), statistics.macro_f1)


def compared_macro_f1(truth: Sequence[str], predicted: Sequence[tuple[Sequence[str], Float64]]) -> list[Metric]:
    """Return macro-F1 of several heads on the same N rows.

    Args:
        truth: the class of each row.
        predicted: the C classes of each head, and the scores of the rows, shape (N, C).
    """
    number = {name: at for at, name in enumerate(sorted({*truth, *(name for names, _ in predicted for name in names)}))}
    truth_N = np.array([number[name] for name in truth], np.int64)
    return [
        macro_f1(truth_N, np.array([number[name] for name in names], np.int64)[scores_NC.argmax(axis=1)])
        for names, scores_NC in predicted
    ]


def group_gap(wrong_N: Bools, inside_N: Bools) -> Share:
    """Return the error of some rows minus that of the others, with an interval (Newcombe 1998, method 10)."""
    ours = share(int((wrong_N & inside_N).sum()), int(inside_N.sum()))
    theirs = share(int((wrong_N & ~inside_N).sum()), int((~inside_N).sum()))
    if ours is None or theirs is None:
        return Share(value=0.0, low=-1.0, high=1.0)
    gap = ours.value - theirs.value
    return Share(
        value=gap,
        low=gap - float(np.hypot(ours.value - ours.low, theirs.high - theirs.value)),
        high=gap + float(np.hypot(ours.high - ours.value, theirs.value - theirs.low)),
    )


def class_quality(label: str, true_N: Bools, named_N: Bools) -> ClassQuality:
    """Return the quality of one class from the rows that have it and the rows that it was named for."""
    hits = int((true_N & named_N).sum())
    return ClassQuality(
        label=label,
        num_rows=int(true_N.sum()),
        precision=share(hits, int(named_N.sum())),
        recall=share(hits, int(true_N.sum())),
        f1=f1_share(hits, int((true_N | named_N).sum())),
    )


def f1_share(hits: int, total: int) -> Share | None:
    """Return F1 with its interval; None without rows.

    Args:
        hits: rows of the class that it was named for.
        total: rows that are of the class, or that it was named for.

    F1 is ``2 j / (1 + j)``, and ``j = hits / total`` is a share, so Wilson's interval of ``j`` gives that of F1. Unlike the
    bootstrap it has a width when every row is right.
    """
    jaccard = share(hits, total)
    if jaccard is None:
        return None
    return Share(**{name: 2 * value / (1 + value) for name, value in jaccard.model_dump().items()})


def macro_f1_share(truth_N: Int64, predicted_N: Int64) -> Share:
    """Return macro-F1 with an interval: the wider of the bootstrap interval and the interval by class.

    The mean of the classes' F1 gets its interval from theirs (MOVER, Zou and Donner 2008). With few rows, or when every
    row is right, all resamples give one value, and the bootstrap alone would claim to be certain.
    """
    measured = resampled(macro_f1(truth_N, predicted_N))
    classes = np.unique(np.concatenate([truth_N, predicted_N]))
    parts = [
        part
        for at in classes.tolist()
        if (
            part := f1_share(
                int(((truth_N == at) & (predicted_N == at)).sum()), int(((truth_N == at) | (predicted_N == at)).sum())
            )
        )
    ]
    below, above = mover(parts)
    return Share(
        value=measured.value,
        low=max(0.0, min(measured.low, measured.value - below)),
        high=min(1.0, max(measured.high, measured.value + above)),
    )


def mover(parts: Sequence[Share]) -> tuple[float, float]:
    """Return how far the interval of the mean of shares reaches below and above it (MOVER, Zou and Donner 2008)."""
    below, above = (
        float(np.sqrt(sum((part.value - getattr(part, side)) ** 2 for part in parts))) / len(parts)
        for side in ("low", "high")
    )
    return below, above


def measure_groups(groups: Mapping[str, Sequence[str | None]], right_N: Bools, answered_N: Bools) -> list[GroupQuality]:
    """Return errors and abstentions for each value of each column, and each error compared with all rows of other values.

    A value of None stands for no group: such a row is no part of the column's comparison.
    """
    measured = []
    for column, values in groups.items():
        has_group_N = np.array([value is not None for value in values], np.bool_)
        values_G = np.array([value for value in values if value is not None], dtype=object)
        wrong_G, answered_G = ~right_N[has_group_N], answered_N[has_group_N]
        for value in sorted(set(values_G.tolist())):
            inside_G = values_G == value
            measured.append(
                GroupQuality(
                    column=column,
                    value=value,
                    num_rows=int(inside_G.sum()),
                    error=share_of(wrong_G[inside_G]),
                    abstained=share_of(~answered_G[inside_G]),
                    gap=group_gap(wrong_G, inside_G),
                )
            )
    return measured


def risk_curve(confidence_N: npt.NDArray[np.float64], right_N: Bools) -> list[tuple[float, float]]:
    """Return shares of rows answered, the surest first, and the share of wrong answers among them."""
    wrong_N = np.cumsum(~right_N[np.argsort(-confidence_N, kind="stable")])
    counts = np.unique(np.linspace(1, len(right_N), min(100, len(right_N))).astype(int))
    return [(count / len(right_N), float(wrong_N[count - 1] / count)) for count in counts.tolist()]


def resampled(metric: Metric) -> Share:
    """Return the value of a metric between 0 and 1 with its bootstrap interval."""
    bootstrap = interval(metric, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=0)
    return Share(value=bootstrap.value, low=max(0.0, bootstrap.low), high=min(1.0, bootstrap.high))


def share_of(flags_N: Bools) -> Share:
    """Return the share of true flags with its interval; there must be one flag at least."""
    share_of_rows = share(int(flags_N.sum()), len(flags_N))
    assert share_of_rows is not None
    return share_of_rows
