"""Fit the rule of `sbert duplicates` on labelled pairs, with a promised precision.

A logistic model of cosine, shared words and the conflicts of `sbert.rows.text_differences` gives the probability that two
texts say the same. Its threshold is chosen on predictions for pairs that the model was not fitted on (10-fold
cross-validation). For a promised precision, ten thresholds are tested, and the laxest counts whose precision has an exact
interval (Clopper and Pearson 1934) that begins above the promise. The level of the test is divided by ten (Bonferroni), so
the promise holds with a confidence of 97.5 %.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.duplicates.rule import FEATURES, FittedModel, PairRule, pair_features, shared_words
from sbert.counted import counted
from sbert.errors import LabelError
from sbert.rows.text_differences import TextFacts, has_conflict, text_facts
from sbert.vectors.precision import Float32

__all__ = ["FitSettings", "LabelledPairs", "fit_rule", "with_nearest_negatives"]

NUM_FOLDS = 10
CONFIDENCE = 0.95
LEAST_COSINE = 0.5
"""Pairs below this cosine are never compared in a table, so they count as different while the rule is fitted."""
NUM_TRIED = 10
CONFLICT_OVERLAPS = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9)
"""Reaches of the check for conflicts, from the strictest on."""
MAX_CHECK_LOSS = 0.015
"""F1 that the check may cost on the labelled pairs; the strictest reach that costs no more is taken."""
MIN_PAIRS = 50
"""Pairs of each answer."""
Facts = list[tuple[TextFacts, TextFacts]]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class FitSettings(BaseModel):
    """Settings for fitting a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: float | None = Field(
        default=None,
        gt=0.5,
        lt=1,
        description="Promised share of right pairs among those called the same (0.5 to 1); empty: the threshold "
        "with the best F1.",
    )
    same_score: float = Field(
        default=0.5, gt=0, le=1, description="Score from which on a scored pair counts as the same (0 to 1)."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the folds.")


@dataclass(frozen=True)
class LabelledPairs:
    """N pairs of texts, with the answer whether they say the same."""

    left: list[str]
    right: list[str]
    is_same: Flags
    cosines: Array

    def fingerprint(self) -> str:
        """Return a hash of the pairs and answers that does not depend on their order."""
        rows = sorted(zip(self.left, self.right, self.is_same.tolist(), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:32]


def fit_rule(pairs: LabelledPairs, settings: FitSettings | None = None, *, conflict_check: bool = True) -> PairRule:
    """Return the rule that the labelled pairs support.

    Raises:
        LabelError: too few pairs of one kind, or no threshold keeps the promised precision.
    """
    settings = settings or FitSettings()
    num_same = int(pairs.is_same.sum())
    if min(num_same, len(pairs.is_same) - num_same) < MIN_PAIRS:
        raise LabelError(
            f"{num_same} of {counted(len(pairs.is_same), 'labelled pair')} say the same and "
            f"{len(pairs.is_same) - num_same} do not, but {MIN_PAIRS} of each are needed: label more, or set a similarity "
            "instead"
        )
    order = np.lexsort((pairs.right, pairs.left))  # the rule does not depend on the order of the rows
    fact_pairs = [(text_facts(pairs.left[row]), text_facts(pairs.right[row])) for row in order]
    is_same, cosines = pairs.is_same[order], pairs.cosines[order]
    features_PF = np.array(
        [pair_features(float(cosine), *pair) for cosine, pair in zip(cosines, fact_pairs, strict=True)]
    )
    weights, intercept, held_out = _fit(features_PF, is_same, settings.seed)
    is_near = cosines >= LEAST_COSINE
    reach = _check_reach(is_same, held_out, is_near, fact_pairs) if conflict_check else None
    blocked = _blocked(fact_pairs, reach) if reach is not None else np.zeros(len(order), np.bool_)
    scores = np.where(is_near & ~blocked, held_out, -1.0)
    threshold = _best_threshold(is_same, scores)[0]
    if settings.precision is not None:
        threshold = _promised_threshold(is_same, scores, settings.precision)
    called = scores >= threshold
    low, high = _interval(int(is_same[called].sum()), int(called.sum()))
    model = FittedModel(
        weights={name: round(float(weight), 6) for name, weight in zip(FEATURES, weights, strict=True)},
        intercept=round(intercept, 6),
        threshold=round(threshold, 6),
        labels=pairs.fingerprint(),
        num_pairs=len(order),
        precision=round(float(is_same[called].mean()), 4),
        precision_low=round(low, 4),
        precision_high=round(high, 4),
        recall=round(float(called[is_same].mean()), 4),
    )
    return PairRule(
        similarity=_least_cosine(model), conflict_check=conflict_check, conflict_overlap=reach or 0.0, model=model
    )


def with_nearest_negatives(
    anchors: list[str], positives: list[str], anchors_ND: Float32, positives_ND: Float32
) -> LabelledPairs:
    """Return pairs that say the same, and for each anchor its nearest text of another pair, which does not.

    Args:
        anchors: N texts.
        positives: for each a text that says the same.
        anchors_ND: their unit vectors, shape (N, dim).
        positives_ND: unit vectors of the positives, shape (N, dim).
    """
    own = (anchors_ND.astype(np.float64) * positives_ND).sum(axis=1)
    groups = pl.Series(anchors).rank("dense").to_numpy()
    others = np.empty(len(anchors), np.int64)
    for first in range(0, len(anchors), 1024):
        scores = anchors_ND[first : first + 1024] @ positives_ND.T
        scores[groups[first : first + 1024, None] == groups[None, :]] = -2
        others[first : first + 1024] = scores.argmax(axis=1)
    far = (anchors_ND.astype(np.float64) * positives_ND[others]).sum(axis=1)
    is_same = np.repeat([True, False], len(anchors))
    return LabelledPairs(
        [*anchors, *anchors], [*positives, *(positives[n] for n in others)], is_same, np.concatenate([own, far])
    )


def _fit(features_PF: Array, is_same: Flags, seed: int) -> tuple[Array, float, Array]:
    """Return weights, intercept, and the probability of each pair by a model that was fitted without it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LogisticRegression(max_iter=2_000)
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    held_out = cross_val_predict(model, features_PF, is_same, cv=folds, method="predict_proba")[:, 1]
    model.fit(features_PF, is_same)
    return model.coef_[0], float(model.intercept_[0]), held_out


def _check_reach(is_same: Flags, scores: Array, is_near: Flags, fact_pairs: Facts) -> float:
    """Return the strictest reach of the check that costs at most `MAX_CHECK_LOSS` of F1."""
    free = _best_threshold(is_same, np.where(is_near, scores, -1.0))[1]
    for reach in CONFLICT_OVERLAPS:
        checked = np.where(is_near & ~_blocked(fact_pairs, reach), scores, -1.0)
        if free - _best_threshold(is_same, checked)[1] <= MAX_CHECK_LOSS:
            return reach
    return CONFLICT_OVERLAPS[-1]


def _blocked(fact_pairs: Facts, reach: float) -> Flags:
    """Return which pairs the check keeps apart."""
    return np.array(
        [
            has_conflict(left, right) and shared_words(left, right, beside_conflicts=True) >= reach
            for left, right in fact_pairs
        ]
    )


def _best_threshold(is_same: Flags, scores: Array) -> tuple[float, float]:
    """Return the threshold with the best F1, and this F1."""
    order = np.argsort(-scores, kind="stable")
    num_found = np.cumsum(is_same[order])
    f1 = 2 * num_found / (np.arange(1, len(order) + 1) + is_same.sum())
    ends = np.append(np.diff(scores[order]) != 0, True) & (scores[order] > 0)  # equal scores are called alike
    if not ends.any():
        return 0.5, 0.0
    best = int(np.where(ends, f1, -1.0).argmax())
    return float(np.clip(scores[order[best]], 1e-5, 1 - 1e-5)), float(f1[best])


def _promised_threshold(is_same: Flags, scores: Array, precision: float) -> float:
    """Return the laxest threshold that keeps the promise."""
    level = (1 - CONFIDENCE) / NUM_TRIED
    fewest = int(np.ceil(np.log(level / 2) / np.log(precision)))
    ordered = np.sort(scores[scores > 0])[::-1]
    best_low, best_threshold = 0.0, None
    for count in np.geomspace(min(fewest, len(ordered)), len(ordered), NUM_TRIED).astype(int):
        threshold = float(np.clip(ordered[count - 1], 1e-5, 1 - 1e-5))
        called = scores >= threshold
        low, _ = _interval(int(is_same[called].sum()), int(called.sum()), 1 - level)
        best_low = max(best_low, low)
        if low >= precision:
            best_threshold = threshold
    if best_threshold is None:
        raise LabelError(
            f"no threshold keeps a precision of {precision:.1%}: {len(scores)} labelled pairs can prove {best_low:.1%} at "
            f"most. Set a lower precision, or label more pairs (at least {fewest} of them must be called the same)"
        )
    return best_threshold


def _interval(num_right: int, num_called: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    from scipy.stats import binomtest

    if not num_called:
        return 0.0, 1.0
    ends = binomtest(num_right, num_called).proportion_ci(confidence, method="exact")
    return float(ends.low), float(ends.high)


def _least_cosine(model: FittedModel) -> float:
    """Return the least cosine at which the model can call two texts the same, whatever their words."""
    best_rest = sum(max(0.0, weight) for name, weight in model.weights.items() if name != "cosine")
    odds = np.log(model.threshold / (1 - model.threshold)) - model.intercept - best_rest
    weight = model.weights["cosine"]
    least = odds / weight if weight > 0 else LEAST_COSINE
    return float(round(min(max(least, LEAST_COSINE), 0.99), 4))
