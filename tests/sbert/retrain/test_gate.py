"""The gate: proven gain, no harm, no collapse; each refused with its reason."""

from collections.abc import Mapping

import numpy as np
import pytest
from pydantic import ValidationError

from sbert.errors import EvaluationError
from sbert.evaluation import statistics
from sbert.evaluation.evaluate import EncoderEvaluation, Evaluated, MetricValue, SetEvaluation
from sbert.evaluation.geometry import Geometry
from sbert.evaluation.metric import Metric
from sbert.evaluation.settings import EvaluationSettings
from sbert.retrain.gate import Decision, decide
from sbert.retrain.gate_settings import GateSettings

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
            metrics={"accuracy": MetricValue(value=metrics_of_set["accuracy"].value, low=0, high=1, num_rows=NUM_ROWS)},
            slices={}, robustness={},
        )
        for name, metrics_of_set in metrics.items()
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
    assert decision.production_fingerprint == "old"
    assert decision.candidate_fingerprint == "new"
    assert decision.primary.low > 0
    assert decision.primary.gain == pytest.approx(0.05)
    assert "accuracy 0.8000 → 0.8500 on 400 held-out rows" in decision.reason


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (0.8, "accuracy 0.8000 → 0.8000: no gain (400 test rows)"),
        (0.79, "accuracy 0.8000 → 0.7900: -0.0100 is a loss (400 test rows)"),
        (0.8025, "accuracy 0.8000 → 0.8025: +0.0025 could be chance (400 test rows); more labels would help; the 95% "),
    ],
)
def test_a_refusal_explains_itself(after: float, why: str) -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.8}), evaluated("new", {"held-out": after}), GateSettings(), EVALUATION
    )
    assert not decision.promoted
    assert decision.reason.startswith(why)


def test_the_margin_counts_from_the_lower_end() -> None:
    before, after = evaluated("old", {"held-out": 0.8}), evaluated("new", {"held-out": 0.85})
    low = decide(before, after, GateSettings(), EVALUATION).primary.low
    assert decide(before, after, GateSettings(margin=low - 0.001), EVALUATION).promoted
    refused = decide(before, after, GateSettings(margin=low), EVALUATION)
    assert not refused.promoted
    assert "+0.0500 is less than gate.margin asks for (400 test rows)" in refused.reason
    assert f"must lie above {low:g}" in refused.reason


def test_a_regression_set_whose_metric_drops_too_far_refuses() -> None:
    before = evaluated("old", {"held-out": 0.8, "sts": 0.9})
    after = evaluated("new", {"held-out": 0.9, "sts": 0.88})
    refused = decide(before, after, GateSettings(), EVALUATION)
    assert refused.reasons == [
        "regression set sts: accuracy drops by 0.0200 (0.9000 → 0.8800), more than the tolerance of 0.005"
    ]
    assert decide(before, after, GateSettings(tolerance=0.021), EVALUATION).promoted
    assert decide(before, after, GateSettings(tolerances={"sts": 0.021}), EVALUATION).promoted
    assert [item.set_name for item in refused.regression_sets] == ["sts"]


NEGATION, TYPOS = "robustness:negation", "robustness:typos"


def test_a_proven_loss_on_a_robustness_set_refuses_and_only_warns_where_the_settings_say_so() -> None:
    before = evaluated("old", {"held-out": 0.8, NEGATION: 0.7, TYPOS: 0.9})
    after = evaluated("new", {"held-out": 0.9, NEGATION: 0.6, TYPOS: 0.9})
    refused = decide(before, after, GateSettings(), EVALUATION)
    assert not refused.promoted
    assert refused.warnings == []
    assert [item.set_name for item in refused.robustness] == [NEGATION, TYPOS]
    [reason] = refused.reasons
    item = refused.robustness[0]
    assert reason == (
        "robustness set negation: accuracy drops by 0.1000 (0.7000 → 0.6000 on 400 made rows), and its whole interval "
        f"[{item.low:+.4f}, {item.high:+.4f}] lies below 0: the candidate tells a text from its negation less often; raise "
        "training.continual.rehearsal_weight, or accept the loss with gate.robustness.tolerance"
    )
    reported = decide(before, after, GateSettings.model_validate({"robustness": {"action": "report"}}), EVALUATION)
    assert reported.promoted
    assert reported.warnings == [reason]
    assert decide(before, after, GateSettings.model_validate({"robustness": {"tolerance": 0.2}}), EVALUATION).promoted


def test_the_remedy_of_a_loss_that_is_not_rehearsed_is_to_train_less() -> None:
    before, after = (
        evaluated(name, {"held-out": gain, TYPOS: kept}) for name, gain, kept in (("o", 0.8, 0.9), ("n", 0.9, 0.8))
    )
    [reason] = decide(before, after, GateSettings(), EVALUATION).reasons
    assert "lower training.learning_rate or training.continual.average_weight, or accept" in reason


def test_a_loss_on_a_robustness_set_that_could_be_chance_is_no_loss() -> None:
    before = evaluated("old", {"held-out": 0.8, NEGATION: 0.7})
    after = evaluated("new", {"held-out": 0.9, NEGATION: 0.6975})
    decision = decide(before, after, GateSettings(), EVALUATION)
    assert decision.promoted
    assert decision.robustness[0].gain < 0


def test_the_intervals_of_several_robustness_sets_are_wider() -> None:
    def interval(*names: str) -> tuple[float, float]:
        sets = {"held-out": 0.8, **dict.fromkeys(names, 0.7)}
        after = {"held-out": 0.9, **dict.fromkeys(names, 0.65)}
        item = decide(evaluated("old", sets), evaluated("new", after), GateSettings(), EVALUATION).robustness[0]
        return item.low, item.high

    one, four = interval(NEGATION), interval(NEGATION, TYPOS, "robustness:number", "robustness:other_domain")
    assert four[0] < one[0] < one[1] < four[1]


def test_a_decision_of_an_earlier_release_without_robustness_sets_is_read() -> None:
    both = {"held-out": 0.8}
    record = decide(evaluated("old", both), evaluated("new", both), GateSettings(), EVALUATION).model_dump()
    del record["robustness"], record["warnings"]
    assert Decision.model_validate(record).robustness == []


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


def test_an_objection_from_training_refuses_too() -> None:
    decision = decide(
        evaluated("old", {"held-out": 0.5}),
        evaluated("new", {"held-out": 1.0}),
        GateSettings(),
        EVALUATION,
        objections=["the loss became NaN"],
    )
    assert not decision.promoted
    assert decision.reason == "the loss became NaN"


def test_encoders_measured_on_different_rows_are_not_compared() -> None:
    after = evaluated("new", {"held-out": 0.9}, rows_fingerprint="others")
    with pytest.raises(EvaluationError, match="measured on rows rows, but the candidate on others"):
        decide(evaluated("old", {"held-out": 0.8}), after, GateSettings(), EVALUATION)


def test_a_tolerance_for_an_unknown_set_is_refused() -> None:
    one = evaluated("old", {"held-out": 0.8})
    with pytest.raises(EvaluationError, match=r"names \['stss'\], but the sets are held-out"):
        decide(one, one, GateSettings(tolerances={"stss": 0.1}), EVALUATION)


def test_for_a_metric_where_lower_is_better_a_lower_value_is_a_gain() -> None:
    def aligned(fingerprint: str, distance: float) -> Evaluated:
        evaluation = evaluated(fingerprint, {"held-out": 0.5})
        values = np.full(50, distance) + np.linspace(0, 0.01, 50)
        metrics = {"held-out": {"alignment": Metric("alignment", (values,), statistics.mean)}}
        held_out = evaluation.summary.sets["held-out"].model_copy(update={"primary_metric": "alignment"})
        return Evaluated(evaluation.summary.model_copy(update={"sets": {"held-out": held_out}}), metrics)

    assert decide(aligned("old", 0.5), aligned("new", 0.4), GateSettings(), EVALUATION).promoted
    worse = decide(aligned("old", 0.4), aligned("new", 0.5), GateSettings(), EVALUATION)
    assert not worse.promoted
    assert round(worse.primary.gain, 3) == -0.1


def test_a_decision_recorded_by_an_earlier_release_is_read() -> None:
    both = {"held-out": 0.8, "sts": 0.9}
    record = decide(evaluated("old", both), evaluated("new", both), GateSettings(), EVALUATION).model_dump()
    record["guards"] = record.pop("regression_sets")
    assert [item.set_name for item in Decision.model_validate(record).regression_sets] == ["sts"]


def test_tolerances_have_the_bounds_of_the_tolerance() -> None:
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValidationError):
            GateSettings(tolerances={"sts": wrong})
