"""The promotion gate: is the candidate better than production, beyond chance and without harm?

A candidate passes when all of this holds, on rows and by code that are the same for both:

1. its space has not collapsed (mean cosine of random pairs, effective rank), whatever its score;
2. the lower end of the paired bootstrap interval of ``after - before`` of the primary metric is above the margin;
3. no guard metric drops by more than its tolerance.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import EvaluationError
from sbert.evaluation.evaluate import Evaluated
from sbert.evaluation.frozen_sets import HELD_OUT
from sbert.evaluation.geometry import Geometry
from sbert.evaluation.label_metrics import LOWER_IS_BETTER
from sbert.evaluation.metric import difference_interval
from sbert.evaluation.settings import EvaluationSettings

__all__ = ["Comparison", "Decision", "GateSettings", "decide"]


class GateSettings(BaseModel):
    """What a candidate has to prove."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="How far above zero the lower end of the interval of the gain must be (units of the metric).",
    )
    tolerance: float = Field(
        default=0.005, ge=0, lt=1, description="Drop of a guard metric that is accepted (units of the metric)."
    )
    tolerances: dict[str, float] = Field(
        default_factory=dict, description="The same for single guard sets, by name: {'sts': 0.01}."
    )
    max_mean_cosine: float = Field(
        default=0.9, gt=0, le=1, description="Mean cosine of random pairs above which a space has collapsed (-1 to 1)."
    )
    min_effective_rank_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Effective rank, as a share of production's, below which a space has collapsed (0 to 1).",
    )


class Comparison(BaseModel):
    """One metric of production and candidate on the same rows."""

    model_config = ConfigDict(frozen=True)

    set_name: str
    metric: str
    before: float
    after: float
    gain: float = Field(description="after - before, turned so that more is better.")
    low: float = Field(description="Lower end of the paired bootstrap interval of the gain.")
    high: float = Field(description="Upper end.")
    num_rows: int
    rows_fingerprint: str = Field(description="Hash of the frozen rows.")
    tolerance: float | None = Field(default=None, description="Accepted drop, for guards.")


class Decision(BaseModel):
    """Promoted or not, and why."""

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reasons: list[str] = Field(description="What speaks against it; or, when promoted, for it.")
    primary: Comparison = Field(description="The metric that decides.")
    guards: list[Comparison] = Field(description="The metrics that may not drop.")
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
    also_against: Sequence[str] = (),
) -> Decision:
    """Decide whether `after`, the candidate, takes the place of `before`, production.

    Args:
        before: production's evaluation.
        after: the candidate's, on the same sets.
        gate: what has to be proven.
        evaluation: resamples and confidence.
        also_against: what speaks against the candidate beside its numbers, such as a training that went wrong.

    Raises:
        EvaluationError: when the two were not measured on the same rows, or a tolerance names a set there is not.
    """
    unknown = sorted(set(gate.tolerances) - set(after.metrics))
    if unknown:
        raise EvaluationError(f"gate.tolerances names {unknown}, the sets are {', '.join(after.metrics)}")
    compared = {name: compare(before, after, name, evaluation) for name in after.metrics}
    primary = compared.pop(HELD_OUT)
    guards = [
        item.model_copy(update={"tolerance": gate.tolerances.get(name, gate.tolerance)})
        for name, item in compared.items()
    ]
    against = [
        *also_against,
        *_collapse(before.summary.geometry, after.summary.geometry, gate),
        *_no_gain(primary, gate, evaluation),
        *(reason for guard in guards for reason in _harm(guard)),
    ]
    passed = (
        f"{primary.metric} {primary.before:.4f} → {primary.after:.4f} on {primary.num_rows} held-out rows, gain "
        f"{primary.gain:+.4f} [{primary.low:+.4f}, {primary.high:+.4f}]"
    )
    return Decision(
        promoted=not against,
        reasons=against or [passed],
        primary=primary,
        guards=guards,
        geometry_before=before.summary.geometry,
        geometry_after=after.summary.geometry,
        production_fingerprint=before.summary.fingerprint,
        candidate_fingerprint=after.summary.fingerprint,
    )


def compare(before: Evaluated, after: Evaluated, name: str, evaluation: EvaluationSettings) -> Comparison:
    """Compare the deciding metric of one set.

    Raises:
        EvaluationError: when the two were measured on different rows.
    """
    _check_same_rows(before, after, name)
    chosen = after.summary.sets[name]
    metric = chosen.primary_metric
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
    return Comparison(
        set_name=name,
        metric=metric,
        before=before.metrics[name][metric].value,
        after=after.metrics[name][metric].value,
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        num_rows=new.num_rows,
        rows_fingerprint=chosen.fingerprint,
    )


def _check_same_rows(before: Evaluated, after: Evaluated, name: str) -> None:
    ours: Mapping[str, object] = {key: item.fingerprint for key, item in after.summary.sets.items()}
    theirs: Mapping[str, object] = {key: item.fingerprint for key, item in before.summary.sets.items()}
    if ours.get(name) != theirs.get(name):
        raise EvaluationError(
            f"{name}: production was measured on rows {theirs.get(name)}, the candidate on {ours.get(name)}: both must be "
            "measured on the same frozen rows"
        )


def _collapse(before: Geometry, after: Geometry, gate: GateSettings) -> list[str]:
    found = []
    if after.mean_cosine > gate.max_mean_cosine:
        found.append(
            f"the space has collapsed: random pairs have a mean cosine of {after.mean_cosine:.3f}, above "
            f"{gate.max_mean_cosine:g} (production {before.mean_cosine:.3f})"
        )
    least = gate.min_effective_rank_share * before.effective_rank
    if after.effective_rank < least:
        found.append(
            f"the space has collapsed: its effective rank is {after.effective_rank:.1f}, below {least:.1f} "
            f"({gate.min_effective_rank_share:g} of production's {before.effective_rank:.1f})"
        )
    return found


def _no_gain(primary: Comparison, gate: GateSettings, evaluation: EvaluationSettings) -> list[str]:
    if primary.low > gate.margin:
        return []
    return [
        f"{primary.metric} {primary.before:.4f} → {primary.after:.4f} on {primary.num_rows} held-out rows is no proven "
        f"gain: the {evaluation.confidence:.0%} interval of the difference is [{primary.low:+.4f}, {primary.high:+.4f}], "
        f"its lower end must be above {gate.margin:g}"
    ]


def _harm(guard: Comparison) -> list[str]:
    assert guard.tolerance is not None
    if guard.gain >= -guard.tolerance:
        return []
    return [
        f"guard {guard.set_name}: {guard.metric} drops by {-guard.gain:.4f} ({guard.before:.4f} → {guard.after:.4f}), "
        f"accepted is {guard.tolerance:g}"
    ]
