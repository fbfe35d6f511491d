"""Measure how surprising a bucket is, compared with the buckets before it.

The share of a class is compared with a beta-binomial distribution, the volume with a negative binomial one: both allow for
buckets that differ more than chance alone would make them (overdispersion, McCullagh and Nelder 1989, sections 4.5 and 6.2),
as much as the earlier buckets did, and for what is not known about the expected value itself.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats
from scipy.special import betainc, betaln, gammaln

__all__ = ["Expected", "Spans", "clump_share", "share_surprise", "volume_surprise", "weights_of"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SAME_SLOT_WEIGHT = 3.0
"""An earlier bucket of the same time of day and kind of day counts so many times as much as others."""
MIN_SHARE = 1e-3
FAR = 15
"""Standard deviations from the mean beyond which nothing is added up."""
MOST_CLUMPED = 0.1
"""Larger p-values open no alert, so nothing is corrected."""
NORMAL_95 = 1.96
"""Standard deviations on each side that hold 95 % of a normal distribution; the bands are drawn by it, p-values are not."""


@dataclass(frozen=True)
class Expected:
    """The expectation for a bucket, and how surprising the bucket is."""

    value: float
    """Expected share, or expected rows."""
    low: float
    high: float
    """About 95 of 100 buckets would lie between these."""
    p_value: float
    """Probability of at least as much, if nothing has changed."""
    num_buckets: int = 1
    """Buckets that were looked at together; `value` is of a share, or of one bucket's rows."""


def weights_of(ages_B: Float64, same_slot_B: npt.NDArray[np.bool_], half_life: float) -> Float64:
    """Return the weights of earlier buckets: newer buckets and buckets of the same slot of the week count more."""
    return np.asarray(0.5 ** (ages_B / half_life) * np.where(same_slot_B, SAME_SLOT_WEIGHT, 1.0))


@dataclass(frozen=True)
class Spans:
    """Spans of time before the present one, as long as it is: rows of a class and all rows of each, with weights."""

    counts_S: Int64
    totals_S: Int64
    weights_S: Float64


def share_surprise(
    count: int, total: int, counts_B: Int64, totals_B: Int64, weights_B: Float64, spans: Spans | None = None
) -> Expected:
    """Compare the rows of a class in a bucket, or in several together, with earlier buckets.

    Args:
        count: rows of the class.
        total: all rows of the bucket.
        counts_B: rows of the class in B earlier buckets.
        totals_B: all rows of these.
        weights_B: their weights.
        spans: earlier spans of several buckets, as many as are looked at together; None for one bucket. They say how much
            such spans differ beyond chance, which buckets that follow one another may do together.
    """
    rows = float((weights_B * totals_B).sum())
    mean = float(np.clip(((weights_B * counts_B).sum() + 0.5) / (rows + 1), MIN_SHARE, 1 - MIN_SHARE))
    like = spans or Spans(counts_B, totals_B, weights_B)
    correlation = _correlation(like, mean)
    own = weights_B**2 * totals_B * (1 + correlation * np.maximum(totals_B - 1, 0))
    unsure = float(own.sum()) / (rows + 1) ** 2  # variance of the mean itself, in units of the spread
    extra = min(0.5, correlation + unsure)
    concentration = 1 / extra - 1
    p_value = _upper_tail(count, total, mean * concentration, (1 - mean) * concentration)
    deviation = float(np.sqrt(mean * (1 - mean) * (extra + (1 - extra) / max(1, total))))
    return Expected(mean, max(0.0, mean - NORMAL_95 * deviation), min(1.0, mean + NORMAL_95 * deviation), p_value)


def _correlation(like: Spans, mean: float) -> float:
    """Return the correlation of two rows of a span: 0 where spans differ by chance alone.

    The moment estimator whose weights are numbers of pairs, with what is known of the mean.
    """
    spread = mean * (1 - mean)
    squares_S = (like.counts_S - like.totals_S * mean) ** 2 - like.totals_S * spread
    pairs = float((like.weights_S * like.totals_S * (like.totals_S - 1)).sum())
    return max(0.0, float((like.weights_S * squares_S).sum()) / max(spread * pairs, 1e-9))


def _upper_tail(count: int, total: int, alpha: float, beta: float) -> float:
    """Return the mid-p-value of a beta-binomial count: the probability of more, and half that of equally many.

    A plain tail of a count is too large on average; the half corrects it (Lancaster 1961, "Significance tests in discrete
    distributions").
    """
    mean = alpha / (alpha + beta)
    variance = total * mean * (1 - mean) * (alpha + beta + total) / (alpha + beta + 1)
    reach = FAR * math.sqrt(variance) + 50
    if not total or count < total * mean - reach:
        return 1.0
    more = np.arange(count, min(total, max(count, int(total * mean)) + reach) + 1)
    logs = gammaln(total + 1) - gammaln(more + 1) - gammaln(total - more + 1)
    logs += betaln(more + alpha, total - more + beta) - betaln(alpha, beta)
    chances = np.exp(logs)
    return float(min(1.0, chances.sum() - chances[0] / 2))


def clump_share(p_value: float, length: int) -> float:
    """Return the share of tests with such a p-value that begin a clump of them.

    Looks at `length` buckets together that begin a bucket apart share most of their rows, so those that surprise follow one
    another. Only the first of a clump opens an alert. For moving sums of normal values (Siegmund 1985, "Sequential
    Analysis", section 8.3 and the correction 10.37 for discrete steps).
    """
    if length == 1 or p_value > MOST_CLUMPED:
        return 1.0
    z = float(scipy.stats.norm.isf(max(p_value, 1e-300)))
    density = float(scipy.stats.norm.pdf(z)) / max(p_value, 1e-300)
    return min(1.0, z * density / length * float(np.exp(-0.583 * z * np.sqrt(2 / length))))


def volume_surprise(total: int, totals_B: Int64, weights_B: Float64) -> Expected:
    """Compare the rows of a bucket with earlier buckets; arguments as in `share_surprise`."""
    mean = max(0.1, float((weights_B * totals_B).sum() / weights_B.sum()))
    variance = float((weights_B * (totals_B - mean) ** 2).sum() / weights_B.sum()) * _corrected(weights_B)
    unsure = variance * float((weights_B**2).sum() / weights_B.sum() ** 2)  # of the mean itself
    excess = max(1e-6, (max(variance, mean) + unsure - mean) / mean**2)
    odds = mean * excess
    # the upper tail of a negative binomial count is an incomplete beta function
    p_value = float(betainc(total, 1 / excess, odds / (1 + odds))) if total else 1.0
    deviation = float(np.sqrt(mean + excess * mean**2))
    return Expected(mean, max(0.0, mean - NORMAL_95 * deviation), mean + NORMAL_95 * deviation, p_value)


def _corrected(weights: Float64) -> float:
    """Return the factor that makes a weighted mean of squares an unbiased variance."""
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return effective / max(effective - 1, 1.0)
