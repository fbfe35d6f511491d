"""How surprising a bucket is, given what came before it.

The share of a class is compared with a beta-binomial distribution, the volume with a negative binomial one: both allow for
buckets that differ more than chance alone would make them (overdispersion, McCullagh and Nelder 1989, sections 4.5 and 6.2),
as much as the earlier buckets did, and for what is not known about the expected value itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

__all__ = ["Expected", "share_surprise", "volume_surprise", "weights_of"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SAME_SLOT_WEIGHT = 3.0
"""An earlier bucket of the same time of day and kind of day counts so many times as much as others."""
MIN_SHARE = 1e-3
NORMAL_95 = 1.96
"""Standard deviations on each side that hold 95 % of a normal distribution; the bands are drawn by it, p-values are not."""


@dataclass(frozen=True)
class Expected:
    """What was expected of a bucket, and how surprising it is."""

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
    """Return the weights of earlier buckets: newer ones and those of the same slot of the week count more."""
    return np.asarray(0.5 ** (ages_B / half_life) * np.where(same_slot_B, SAME_SLOT_WEIGHT, 1.0))


def share_surprise(count: int, total: int, counts_B: Int64, totals_B: Int64, weights_B: Float64) -> Expected:
    """Compare the rows of a class in a bucket with earlier buckets.

    Args:
        count: rows of the class.
        total: all rows of the bucket.
        counts_B: rows of the class in B earlier buckets.
        totals_B: all rows of these.
        weights_B: their weights.
    """
    rows = float((weights_B * totals_B).sum())
    mean = float(np.clip(((weights_B * counts_B).sum() + 0.5) / (rows + 1), MIN_SHARE, 1 - MIN_SHARE))
    spread = mean * (1 - mean)
    squares = (counts_B - totals_B * mean) ** 2 - totals_B * spread
    pairs = float((weights_B * totals_B * (totals_B - 1)).sum())
    correlation = max(0.0, float((weights_B * squares).sum()) / max(spread * pairs, 1e-9))
    own = weights_B**2 * totals_B * (1 + correlation * np.maximum(totals_B - 1, 0))
    unsure = float(own.sum()) / (rows + 1) ** 2  # variance of the mean itself, in units of the spread
    extra = min(0.5, correlation + unsure)
    concentration = 1 / extra - 1
    p_value = float(scipy.stats.betabinom.sf(count - 1, total, mean * concentration, (1 - mean) * concentration))
    deviation = float(np.sqrt(mean * (1 - mean) * (extra + (1 - extra) / max(1, total))))
    return Expected(mean, max(0.0, mean - NORMAL_95 * deviation), min(1.0, mean + NORMAL_95 * deviation), p_value)


def volume_surprise(total: int, totals_B: Int64, weights_B: Float64) -> Expected:
    """Compare the rows of a bucket with earlier buckets; arguments as in `share_surprise`."""
    mean = max(0.1, float((weights_B * totals_B).sum() / weights_B.sum()))
    variance = float((weights_B * (totals_B - mean) ** 2).sum() / weights_B.sum()) * _corrected(weights_B)
    unsure = variance * float((weights_B**2).sum() / weights_B.sum() ** 2)  # of the mean itself
    excess = max(1e-6, (max(variance, mean) + unsure - mean) / mean**2)
    p_value = float(scipy.stats.nbinom.sf(total - 1, 1 / excess, 1 / (1 + mean * excess)))
    deviation = float(np.sqrt(mean + excess * mean**2))
    return Expected(mean, max(0.0, mean - NORMAL_95 * deviation), mean + NORMAL_95 * deviation, p_value)


def _corrected(weights: Float64) -> float:
    """Return the factor that makes a weighted mean of squares an unbiased variance."""
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return effective / max(effective - 1, 1.0)
