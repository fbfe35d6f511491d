"""The gate: proven gain, no harm, no collapse; each refused with its reason."""

from collections.abc import Mapping

import numpy as np
import pytest

from sbert.errors import EvaluationError
from sbert.evaluation import statistics
from sbert.evaluation.evaluate import EncoderEvaluation, Evaluated, MetricValue, SetEvaluation
from sbert.evaluation.geometry import Geometry
from sbert.evaluation.metric import Metric
from sbert.evaluation.settings import EvaluationSettings
from sbert.retrain.gate import GateSettings, decide

EVALUATION = EvaluationSettings(num_resamples=500)
NUM_ROWS = 400


def rows(share_right: float, seed: int = 0) -> np.ndarray:
    """Rows answered right or wrong; the first rows are the easy ones for everybody."""
    return (np.arange(NUM_ROWS) < share_right * NUM_ROWS).astype(np.float64)


def evaluated(
    fingerprint: str,
    accuracies: Mapping[str, float],
    *,
    cosine: float = 0.1,
    rank: float = 100.0,
    rows_fingerprint: str = "rows",
) -> Evaluated:
    metrics = {
        name: {"accuracy": Metric("accuracy", (rows(share),), statistics.mean)} for name, share in accuracies.items()
    }
    sets = {
        name: SetEvaluation(
            name=name, kind="classes", fingerprint=rows_fingerprint, num_rows=NUM_ROWS, primary_metric="accuracy",
            metrics={"accuracy": MetricValue(value=found["accuracy"].value, low=0, high=1, num_rows=NUM_ROWS)},
            slices={}, robustness={},
        )
        for name, found in metrics.items()
    }  # fmt: skip
    geometry = Geometry(num_texts=100, mean_cosine=cosine, effective_rank=rank, uniformity=-3.0)
    summary = EncoderEvaluation(
        model="m", fingerprint=fingerprint, dim=8, sets=sets, geometry=geometry, bias=[], speed=None
    )
    return Evaluated(summary, metrics)


def test_a_proven_gain_is_promoted_and_both_fingerprints_are_named() -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.8}), evaluated("new", {"held-out": 0.85}), GateSettings(), EVALUATION
    )
    assert decision.promoted
    assert (decision.production_fingerprint, decision.candidate_fingerprint) == ("old", "new")
    assert decision.primary.low > 0
    assert decision.primary.gain == pytest.approx(0.05)
    assert "accuracy 0.8000 → 0.8500 on 400 held-out rows" in decision.reason


@pytest.mark.parametrize("after", [0.8, 0.79, 0.8025])
def test_what_is_not_better_beyond_chance_is_refused(after: float) -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.8}), evaluated("new", {"held-out": after}), GateSettings(), EVALUATION
    )
    assert not decision.promoted
    assert "no proven gain: the 95% interval of the difference is [" in decision.reason


def test_the_margin_counts_from_the_lower_end() -> None:
    before, after = evaluated("old", {"held-out": 0.8}), evaluated("new", {"held-out": 0.85})
    low = decide(before, after, GateSettings(), EVALUATION).primary.low
    assert decide(before, after, GateSettings(margin=low - 0.001), EVALUATION).promoted
    refused = decide(before, after, GateSettings(margin=low), EVALUATION)
    assert not refused.promoted
    assert f"must be above {low:g}" in refused.reason


def test_a_guard_that_drops_too_far_refuses() -> None:
    before = evaluated("old", {"held-out": 0.8, "sts": 0.9})
    after = evaluated("new", {"held-out": 0.9, "sts": 0.88})
    refused = decide(before, after, GateSettings(), EVALUATION)
    assert refused.reasons == ["guard sts: accuracy drops by 0.0200 (0.9000 → 0.8800), accepted is 0.005"]
    assert decide(before, after, GateSettings(tolerance=0.021), EVALUATION).promoted
    assert decide(before, after, GateSettings(tolerances={"sts": 0.021}), EVALUATION).promoted
    assert [guard.set_name for guard in refused.guards] == ["sts"]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"cosine": 0.97}, "random pairs have a mean cosine of 0.970, above 0.9"),
        ({"rank": 3.0}, "its effective rank is 3.0, below 25.0 (0.25 of production's 100.0)"),
    ],
)
def test_a_collapsed_candidate_is_refused_whatever_its_score(shape: dict[str, float], reason: str) -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.5}), evaluated("new", {"held-out": 1.0}, **shape), GateSettings(), EVALUATION
    )
    assert not decision.promoted
    assert f"the space has collapsed: {reason}" in decision.reason


def test_what_went_wrong_before_measuring_refuses_too() -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.5}),
        evaluated("new", {"held-out": 1.0}),
        GateSettings(),
        EVALUATION,
        also_against=["the loss became NaN"],
    )
    assert (decision.promoted, decision.reason) == (False, "the loss became NaN")


def test_other_rows_are_not_compared() -> None:
    after = evaluated("new", {"held-out": 0.9}, rows_fingerprint="others")
    with pytest.raises(EvaluationError, match="measured on rows rows, the candidate on others"):
        decide(evaluated("old", {"held-out": 0.8}), after, GateSettings(), EVALUATION)


def test_a_tolerance_for_a_set_there_is_not() -> None:
    one = evaluated("old", {"held-out": 0.8})
    with pytest.raises(EvaluationError, match=r"names \['stss'\], the sets are held-out"):
        decide(one, one, GateSettings(tolerances={"stss": 0.1}), EVALUATION)


def test_a_metric_of_which_less_is_better() -> None:
    def aligned(fingerprint: str, distance: float) -> Evaluated:
        found = evaluated(fingerprint, {"held-out": 0.5})
        values = np.full(50, distance) + np.linspace(0, 0.01, 50)
        metrics = {"held-out": {"alignment": Metric("alignment", (values,), statistics.mean)}}
        chosen = found.summary.sets["held-out"].model_copy(update={"primary_metric": "alignment"})
        return Evaluated(found.summary.model_copy(update={"sets": {"held-out": chosen}}), metrics)

    assert decide(aligned("old", 0.5), aligned("new", 0.4), GateSettings(), EVALUATION).promoted
    worse = decide(aligned("old", 0.4), aligned("new", 0.5), GateSettings(), EVALUATION)
    assert (worse.promoted, round(worse.primary.gain, 3)) == (False, -0.1)
