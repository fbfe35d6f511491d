"""The promotion gate: decide whether the candidate is better than production, beyond chance and without harm.

Candidate and production are measured on the same rows with the same code. The candidate passes when all of this holds:

1. Its space has not collapsed (mean cosine of random pairs, effective rank), whatever its score.
2. The lower end of the paired bootstrap interval of ``after - before`` of the primary metric is above the margin.
3. On no regression set the metric drops by more than its tolerance.
4. On no robustness set the whole interval of the gain lies below zero (or below minus the tolerance), unless
   ``gate.robustness.action`` is ``report``. Several sets are looked at, so their intervals are wider: Bonferroni's
   correction keeps the chance that a harmless candidate is refused at that of one interval.
"""

from collections.abc import Sequence

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from sbert.errors import EvaluationError
from sbert.evaluation.evaluate import Evaluated
from sbert.evaluation.frozen_sets import HELD_OUT
from sbert.evaluation.geometry import Geometry
from sbert.evaluation.label_metrics import LOWER_IS_BETTER
from sbert.evaluation.metric import difference_interval
from sbert.evaluation.robustness_sets import PREFIX
from sbert.evaluation.robustness_settings import RobustnessKind, RobustnessSettings
from sbert.evaluation.settings import EvaluationSettings
from sbert.retrain.gate_settings import GateSettings

__all__ = ["Decision", "MetricComparison", "decide"]


UNLEARNED = {
    RobustnessKind.NEGATION: "tells a text from its negation less often",
    RobustnessKind.NUMBER: "tells texts with different numbers apart less often",
    RobustnessKind.TYPOS: "finds texts less well by a query with typos",
    RobustnessKind.OTHER_DOMAIN: "finds texts of another domain less well",
}
"""Meaning of a loss on a robustness set, in words."""
REHEARSE = "raise training.continual.rehearsal_weight"
TRAIN_LESS = "lower training.learning_rate or training.continual.average_weight"
REMEDIES = {
    RobustnessKind.NEGATION: REHEARSE,
    RobustnessKind.NUMBER: REHEARSE,
    RobustnessKind.TYPOS: TRAIN_LESS,
    RobustnessKind.OTHER_DOMAIN: TRAIN_LESS,
}
"""The training that keeps more of the skill."""


class MetricComparison(BaseModel):
    """One metric of production and candidate on the same rows."""

    model_config = ConfigDict(frozen=True)

    set_name: str
    metric: str
    before: float
    after: float
    gain: float = Field(description="after - before; before - after where lower is better.")
    low: float = Field(description="Lower end of the paired bootstrap interval of the gain.")
    high: float = Field(description="Upper end.")
    num_rows: int
    rows_fingerprint: str = Field(description="Hash of the frozen rows.")
    tolerance: float | None = Field(default=None, description="Accepted drop, for regression and robustness sets.")


class Decision(BaseModel):
    """Promoted or not, and why."""

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reasons: list[str] = Field(description="Reasons against the candidate; when it was promoted, the reason for it.")
    primary: MetricComparison = Field(description="The metric that decides.")
    regression_sets: list[MetricComparison] = Field(
        validation_alias=AliasChoices("regression_sets", "guards"),  # guards: the name in records of earlier releases
        description="The metrics that may not drop.",
    )
    robustness: list[MetricComparison] = Field(
        default_factory=list,
        description="The robustness sets. Their intervals are corrected for the number of sets, so they are wider.",
    )
    warnings: list[str] = Field(
        default_factory=list, description="Proven losses on robustness sets that did not refuse the candidate."
    )
    geometry_before: Geometry
    geometry_after: Geometry
    production_fingerprint: str = Field(description="Fingerprint of the encoder measured as production.")
    candidate_fingerprint: str = Field(description="Fingerprint of the encoder measured as candidate.")

    @property
    def reason(self) -> str:
        """The reasons as one sentence."""
        return "; ".join(self.reasons)


def decide(
    before: Evaluated,
    after: Evaluated,
    gate: GateSettings,
    evaluation: EvaluationSettings,
    *,
    objections: Sequence[str] = (),
) -> Decision:
    """Decide whether the candidate replaces production.

    Args:
        before: production's evaluation.
        after: the candidate's evaluation, on the same sets.
        gate: what the candidate has to prove.
        evaluation: resamples and confidence.
        objections: reasons against the candidate from elsewhere, such as a training that diverged.

    Raises:
        EvaluationError: when the two were not measured on the same rows, or a tolerance names an unknown set.
    """
    unknown = sorted(set(gate.tolerances) - set(after.metrics))
    if unknown:
        raise EvaluationError(f"gate.tolerances names {unknown}, but the sets are {', '.join(after.metrics)}")
    made = [name for name in after.metrics if name.startswith(PREFIX)]
    robustness = [
        compare(before, after, name, _corrected(evaluation, len(made))).model_copy(
            update={"tolerance": gate.robustness.tolerance}
        )
        for name in made
    ]
    losses = [reason for item in robustness for reason in _robustness_loss(item, gate.robustness)]
    comparisons = {name: compare(before, after, name, evaluation) for name in after.metrics if name not in made}
    primary = comparisons.pop(HELD_OUT)
    regression_sets = [
        item.model_copy(update={"tolerance": gate.tolerances.get(name, gate.tolerance)})
        for name, item in comparisons.items()
    ]
    reasons_against = [
        *objections,
        *_collapse(before.summary.geometry, after.summary.geometry, gate),
        *_no_gain(primary, gate, evaluation),
        *(reason for item in regression_sets for reason in _regression(item)),
        *(losses if gate.robustness.refuses else []),
    ]
    reason_for = (
        f"{primary.metric} {primary.before:.4f} → {primary.after:.4f} on {primary.num_rows} held-out rows, gain "
        f"{primary.gain:+.4f} [{primary.low:+.4f}, {primary.high:+.4f}]"
    )
    return Decision(
        promoted=not reasons_against,
        reasons=reasons_against or [reason_for],
        primary=primary,
        regression_sets=regression_sets,
        robustness=robustness,
        warnings=[] if gate.robustness.refuses else losses,
        geometry_before=before.summary.geometry,
        geometry_after=after.summary.geometry,
        production_fingerprint=before.summary.fingerprint,
        candidate_fingerprint=after.summary.fingerprint,
    )


def compare(before: Evaluated, after: Evaluated, name: str, evaluation: EvaluationSettings) -> MetricComparison:
    """Compare the primary metric of one set.

    Raises:
        EvaluationError: when the two were measured on different rows.
    """
    _check_same_rows(before, after, name)
    measured = after.summary.sets[name]
    metric = measured.primary_metric
    new, old = after.metrics[name][metric], before.metrics[name][metric]
    if metric in LOWER_IS_BETTER:
        new, old = old, new
    gain = difference_interval(
        new,
        old,
        num_resamples=evaluation.num_resamples,
        confidence=evaluation.confidence,
        seed=evaluation.seed,
    )
    return MetricComparison(
        set_name=name,
        metric=metric,
        before=before.metrics[name][metric].value,
        after=after.metrics[name][metric].value,
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        num_rows=new.num_rows,
        rows_fingerprint=measured.fingerprint,
    )


def _corrected(evaluation: EvaluationSettings, num_sets: int) -> EvaluationSettings:
    """Return the settings with the confidence that each of several intervals needs (Bonferroni)."""
    return evaluation.model_copy(update={"confidence": 1 - (1 - evaluation.confidence) / max(1, num_sets)})


def _check_same_rows(before: Evaluated, after: Evaluated, name: str) -> None:
    rows_before, rows_after = (
        item.summary.sets[name].fingerprint if name in item.summary.sets else "none" for item in (before, after)
    )
    if rows_before != rows_after:
        raise EvaluationError(
            f"{name}: production was measured on rows {rows_before}, but the candidate on {rows_after}: both must be "
            "measured on the same frozen rows"
        )


def _collapse(before: Geometry, after: Geometry, gate: GateSettings) -> list[str]:
    reasons = []
    if after.mean_cosine > gate.max_mean_cosine:
        reasons.append(
            f"the space has collapsed: random pairs have a mean cosine of {after.mean_cosine:.3f}, above "
            f"{gate.max_mean_cosine:g} (production {before.mean_cosine:.3f})"
        )
    least = gate.min_effective_rank_share * before.effective_rank
    if after.effective_rank < least:
        reasons.append(
            f"the space has collapsed: its effective rank is {after.effective_rank:.1f}, below {least:.1f} "
            f"({gate.min_effective_rank_share:g} of production's {before.effective_rank:.1f})"
        )
    return reasons


def _no_gain(primary: MetricComparison, gate: GateSettings, evaluation: EvaluationSettings) -> list[str]:
    if primary.low > gate.margin:
        return []
    values = f"{primary.metric} {primary.before:.4f} → {primary.after:.4f}"
    rows = f"{primary.num_rows:,} test rows"
    interval = (
        f"the {evaluation.confidence:.0%} interval of the gain is [{primary.low:+.4f}, {primary.high:+.4f}] and must lie "
        f"above {gate.margin:g}"
    )
    if primary.gain == 0:
        return [f"{values}: no gain ({rows})"]
    if primary.gain < 0:
        return [f"{values}: {primary.gain:+.4f} is a loss ({rows})"]
    if primary.low > 0:
        return [f"{values}: {primary.gain:+.4f} is less than gate.margin asks for ({rows}); {interval}"]
    return [f"{values}: {primary.gain:+.4f} could be chance ({rows}); more labels would help; {interval}"]


def _regression(item: MetricComparison) -> list[str]:
    assert item.tolerance is not None
    if item.gain >= -item.tolerance:
        return []
    return [
        f"regression set {item.set_name}: {item.metric} drops by {-item.gain:.4f} ({item.before:.4f} → {item.after:.4f}), "
        f"more than the tolerance of {item.tolerance:g}"
    ]


def _robustness_loss(item: MetricComparison, settings: RobustnessSettings) -> list[str]:
    if item.high >= -settings.tolerance:
        return []
    below = f"minus the tolerance of {settings.tolerance:g}" if settings.tolerance else "0"
    kind = RobustnessKind(item.set_name.removeprefix(PREFIX))
    return [
        f"robustness set {kind}: {item.metric} drops by {-item.gain:.4f} ({item.before:.4f} → {item.after:.4f} on "
        f"{item.num_rows} made rows), and its whole interval [{item.low:+.4f}, {item.high:+.4f}] lies below {below}: the "
        f"candidate {UNLEARNED[kind]}; {REMEDIES[kind]}, or accept the loss with gate.robustness.tolerance"
    ]
