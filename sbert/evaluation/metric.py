"""One metric of one encoder: a value for each frozen row, and the statistic over any choice of these rows.

The one idea: a metric is kept as arrays with an entry per row, not as one number. Then the number, its bootstrap interval,
its value on a slice, and the interval of the difference between two encoders are all one function of an index.

Every statistic works along the last axis, so that thousands of resamples are one call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from sbert.errors import EvaluationError

__all__ = ["Interval", "Metric", "difference_interval", "interval"]

Values = npt.NDArray[np.float64]
Statistic = Callable[..., Values]

BATCH_VALUES = 4_000_000
"""Values of one array of resamples that are in memory at once."""


@dataclass(frozen=True)
class Metric:
    """The values of one encoder on N frozen rows, for one metric."""

    name: str
    rows: tuple[npt.NDArray[np.generic], ...]
    """Arrays of N values each; the statistic takes as many arguments."""
    statistic: Statistic

    @property
    def num_rows(self) -> int:
        """Rows that the metric is over."""
        return len(self.rows[0])

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.statistic(*self.rows))

    def on(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Metric":
        """Return the same metric on some of the rows."""
        return Metric(self.name, tuple(column[index] for column in self.rows), self.statistic)


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


def interval(metric: Metric, *, num_resamples: int, confidence: float, seed: int) -> Interval:
    """Return a metric's value with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        metric: the metric.
        num_resamples: resamples of the rows, with replacement.
        confidence: of the two-sided interval, for example 0.95.
        seed: the same seed gives the same resamples, whatever the metric.
    """
    return _bootstrap(metric.rows, metric.statistic, num_resamples, confidence, seed)


def difference_interval(after: Metric, before: Metric, *, num_resamples: int, confidence: float, seed: int) -> Interval:
    """Return the difference of two encoders on the same rows with its *paired* bootstrap interval.

    Each resample takes the same rows for both encoders (Koehn 2004, "Statistical Significance Tests for Machine Translation
    Evaluation", section 4). So rows that are easy or hard for both do not widen the interval.

    Raises:
        EvaluationError: when the two were not measured on the same number of rows.
    """
    if after.num_rows != before.num_rows:
        raise EvaluationError(
            f"{after.name}: {after.num_rows} rows after, {before.num_rows} before: both must be measured on the same rows"
        )
    num_columns = len(after.rows)

    def difference(*columns: npt.NDArray[np.generic]) -> Values:
        return after.statistic(*columns[:num_columns]) - before.statistic(*columns[num_columns:])

    return _bootstrap((*after.rows, *before.rows), difference, num_resamples, confidence, seed)


def _bootstrap(
    rows: Sequence[npt.NDArray[np.generic]], statistic: Statistic, num_resamples: int, confidence: float, seed: int
) -> Interval:
    value = float(statistic(*rows))
    num_rows = len(rows[0])
    if num_rows < 2:
        return Interval(value, float("-inf"), float("inf"))  # one row does not allow an interval
    result = scipy.stats.bootstrap(
        (np.arange(num_rows),),
        lambda index, axis: statistic(*(column[index] for column in rows)),  # noqa: ARG005  (always the last)
        n_resamples=num_resamples,
        batch=max(1, BATCH_VALUES // num_rows),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))
