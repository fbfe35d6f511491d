"""Search of settings: trials on dev rows, the best judged once, and a killed search that goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sbert.errors import DivergedError, SettingsError, TooFewLabelsError, TrainingError
from sbert.registry.store import Registry
from sbert.retrain import judge, trial, tuning
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.run import retrain
from sbert.retrain.search_space import recipe_values, search_space
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.retrain.tuning import TuningOutcome
from sbert.retrain.tuning_settings import TuningSettings
from sbert.training.recipes import RECIPES
from sbert.training.result import StopReason, TrainingProgress, TrainingResult
from sbert.training.settings import TrainingSettings
from tests.sbert.retrain.conftest import SEARCH_SPACE


def test_the_best_trial_is_judged_once_and_the_report_shows_all(
    make_job: Callable[..., RetrainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def evaluate(encoder: Any, sets: Any, settings: Any) -> Any:
        measured.append(encoder.fingerprint)
        return original(encoder, sets, settings)

    original = judge.evaluate
    monkeypatch.setattr(judge, "evaluate", evaluate)
    report = retrain(make_job())
    assert report.promoted, report.reason
    assert len(measured) == 2  # production and the best trial: nothing else was measured on test rows
    assert [trial.number for trial in report.trials] == [1, 2, 3]
    assert report.trials[0].settings == {"learning_rate": 2e-3, "batch_size": 16}  # the recipe itself comes first
    [best] = [trial for trial in report.trials if trial.is_best]
    completed = [trial.dev for trial in report.trials if trial.outcome == "completed"]
    assert best.dev == report.dev_best == max(dev for dev in completed if dev is not None)
    record = Registry(str(Path(report.model_uri).parents[1])).version("v0002")
    assert record.settings["training"]["learning_rate"] == best.settings["learning_rate"]
    assert record.training is not None
    assert len(record.training["trials"]) == 3
    assert report.report_uri is not None
    page = Path(report.report_uri).read_text()
    assert "Search of settings" in page
    assert page.count("learning_rate ") >= 3
    assert not list(Path(report.model_uri).parents[1].joinpath("_runs").rglob("*.safetensors"))


def test_a_killed_search_goes_on_with_the_trial_that_was_running(
    make_job: Callable[..., RetrainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    began: list[tuple[float, int, str]] = []
    original = trial.train_encoder

    def train(*arguments: Any, **options: Any) -> Any:
        settings: TrainingSettings = arguments[2]
        began.append((settings.learning_rate, settings.batch_size, options["checkpoints_uri"]))
        if len(began) == 2:
            show = options["on_progress"]

            def killed(progress: Any) -> None:
                if progress.share > 0.5:
                    raise KeyboardInterrupt
                show(progress)

            return original(*arguments, **{**options, "on_progress": killed})
        return original(*arguments, **options)

    monkeypatch.setattr(trial, "train_encoder", train)
    with pytest.raises(KeyboardInterrupt):
        retrain(job)
    assert list(Path(job.models_uri, "_runs").rglob("best/checkpoint-0/model/model.safetensors"))
    report = retrain(job)
    assert len(report.trials) == 3
    assert began[2] == began[1]  # the same settings, from the same checkpoints
    assert len(began) == 4  # the trial that had ended was not trained again


@pytest.mark.slow
@pytest.mark.s3
def test_a_search_in_object_storage_goes_on_too(
    make_job: Callable[..., RetrainJob], s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, original = make_job(f"{s3_bucket}/models", trials=2), trial.train_encoder
    began: list[float] = []

    def train(*arguments: Any, **options: Any) -> Any:
        began.append(arguments[2].learning_rate)
        if len(began) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(trial, "train_encoder", train)
    with pytest.raises(KeyboardInterrupt):
        retrain(job)
    report = retrain(job)
    assert began[0] == 2e-3
    assert began[1] == began[2]
    assert [trial.outcome for trial in report.trials] == ["completed", "completed"]


def test_the_time_limit_ends_the_search_after_the_first_trial(make_job: Callable[..., RetrainJob]) -> None:
    report = retrain(make_job(trials=50, max_minutes=1e-6))
    assert [trial.outcome for trial in report.trials] == ["completed"]


def scripted(
    monkeypatch: pytest.MonkeyPatch, trials: list[list[float] | Exception]
) -> Callable[[RetrainJob, Path], TuningOutcome]:
    """Replace training by dev values that are known, one for each epoch, or by an error; return the search."""
    dev: list[float] = []

    def train(base: str, labels: Any, settings: Any, folder: Path, **options: Any) -> TrainingResult:
        script = trials.pop(0)
        if isinstance(script, Exception):
            raise script
        for step, value in enumerate([0.0, *script]):  # the first is the value of the base encoder
            dev.append(value)
            options["evaluate_dev"](None)
            if step:
                options["on_progress"](TrainingProgress(step, len(script), dev=value))
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(str(max(script)))
        return TrainingResult(
            folder=str(folder / "model"), stop_reason=StopReason.COMPLETED, dev_before=0.0, dev_best=max(script),
            best_step=1, num_steps=len(script), num_trainable=1, num_parameters=1, num_tokens=1, seconds=1.0,
            rows_per_second=1.0, tokens_per_second=1.0,
        )  # fmt: skip

    monkeypatch.setattr(trial, "dev_score", lambda *_: lambda _: dev[-1])
    monkeypatch.setattr(trial, "train_encoder", train)
    return lambda job, folder: tuning.tune_candidate(job, find_inputs(job, "run"), folder)


def test_a_trial_below_the_median_of_the_others_is_stopped(
    make_job: Callable[..., RetrainJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = [[0.5, 0.6, 0.7, 0.8 + number / 100] for number in range(5)]
    run = scripted(monkeypatch, [*good, [0.1, 0.1, 0.1, 0.1], [0.5, 0.6, 0.7, 0.9]])
    outcome = run(make_job(trials=7), tmp_path / "found")
    assert [trial.outcome for trial in outcome.training.trials] == [*["completed"] * 5, "stopped", "completed"]
    assert outcome.training.trials[5].reason == "below the median of the other trials after 25%"
    assert outcome.training.trials[5].dev == 0.1
    assert Path(outcome.training.folder, "weights").read_text() == "0.9"


def test_a_trial_that_diverges_fails_and_the_others_go_on(
    make_job: Callable[..., RetrainJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = scripted(monkeypatch, [[0.5] * 4, DivergedError("the loss is nan"), [0.4] * 4])
    outcome = run(make_job(), tmp_path / "found")
    assert [trial.outcome for trial in outcome.training.trials] == ["completed", "failed", "completed"]
    assert outcome.training.trials[1].reason == "the loss is nan"
    assert outcome.training.trials[0].is_best
    assert Path(outcome.training.folder, "weights").read_text() == "0.5"


def test_a_recipe_that_cannot_be_trained_ends_the_search_and_so_do_trials_without_a_model(
    make_job: Callable[..., RetrainJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = scripted(monkeypatch, [TooFewLabelsError("too few rows"), *[DivergedError("nan")] * 2])
    with pytest.raises(TooFewLabelsError, match="too few rows"):
        run(make_job(trials=2), tmp_path / "found")
    with pytest.raises(TrainingError, match="none of the 2 trials ended with a model: 1: nan; 2: nan"):
        run(make_job(trials=2), tmp_path / "found")


def test_without_dev_rows_there_is_no_search(make_job: Callable[..., RetrainJob]) -> None:
    job = make_job()
    labels = job.settings.labels.model_copy(update={"dev_share": 0.0})
    job = job.model_copy(update={"settings": job.settings.model_copy(update={"labels": labels})})
    with pytest.raises(
        SettingsError, match=r"compares settings on dev rows, but there are none: set labels\.dev_share"
    ):
        retrain(job)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_space_around_a_recipe_holds_the_recipe(name: str) -> None:
    recipe = RECIPES[name]
    space = search_space(TuningSettings(), recipe)
    assert set(recipe_values(space, recipe)) == set(space)
    assert TuningSettings(space=space).space == space  # every bound is a value that the setting may have


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"learning_rat": [1e-3]}, "learning_rat"),
        ({"learning_rate": [0.0]}, "greater than 0"),
        ({"learning_rate": []}, "no value"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "above 0 with log"),
        ({"batch_size": {"low": 64, "high": 8}}, "low must be below high"),
        ({"epochs": [1, 2]}, "all trials have the same"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TuningSettings.model_validate({"space": space})


def test_settings_of_a_search_survive_the_way_through_json() -> None:
    asked = RetrainSettings.model_validate({"search": {"trials": 5, "space": SEARCH_SPACE}})
    assert RetrainSettings.model_validate(json.loads(asked.model_dump_json())) == asked
