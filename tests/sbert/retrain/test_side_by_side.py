"""A search whose trials run side by side on workers: what they tell, what stops them, and what a kill costs."""

import threading
from pathlib import Path

import pytest

from sbert.errors import SbertError, TooFewLabelsError, WorkerError
from sbert.retrain import tuning
from sbert.retrain.trial import TrialEnd
from tests.sbert.retrain.scripted_search import (
    SPACE,
    MakeJob,
    Tell,
    ThreadWorkers,
    script_training,
    search,
    until_stopped,
)


def test_trials_run_at_the_same_time_and_the_best_is_kept(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together = threading.Barrier(2, timeout=60)

    def script(rate: float, tell: Tell) -> float:
        together.wait()  # passes only while two trials run
        tell(0.5, 100 * rate)
        return 100 * rate

    script_training(monkeypatch, script)
    workers, shown = ThreadWorkers(2), []
    outcome = search(make_job(trials=6, space=SPACE), tmp_path / "found", workers, shown)
    rates = [begun.settings.learning_rate for begun in workers.begun]
    assert len(rates) == 6
    assert rates[0] == 2e-3  # the recipe
    best = max(rates)
    assert outcome.job.settings.training is not None
    assert outcome.job.settings.training.learning_rate == best
    assert Path(outcome.training.folder, "weights").read_text() == str(100 * best)
    assert sum(trial.is_best for trial in outcome.training.trials) == 1
    assert shown[-1].share == 1
    kept = Path(workers.begun[0].models_uri)
    assert len(list(kept.glob("checkpoint-*/_complete.json"))) == 1
    assert not list(kept.parent.glob("trial-*"))


def test_two_trials_of_the_same_values_have_folders_of_their_own(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together = threading.Barrier(2, timeout=60)

    def script(rate: float, tell: Tell) -> float:
        together.wait()
        return rate

    script_training(monkeypatch, script)
    workers = ThreadWorkers(2)
    search(make_job(trials=2, space={"learning_rate": [2e-3]}), tmp_path / "found", workers, [])
    first, second = (begun.folder_uri for begun in workers.begun)
    assert second == f"{first}-2"


def test_a_worker_is_told_that_its_trial_fell_behind(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[float] = []
    lock = threading.Lock()

    def script(rate: float, tell: Tell) -> float:
        with lock:
            order.append(rate)
            is_bad = len(order) == 6
        if is_bad:
            until_stopped(tell, 0.5, 0.1)
        tell(0.5, 0.6)
        tell(1.0, 0.7)
        return 0.7

    script_training(monkeypatch, script)
    outcome = search(make_job(trials=6, space=SPACE), tmp_path / "found", ThreadWorkers(1), [])
    assert [each.outcome for each in outcome.training.trials] == [*["completed"] * 5, "stopped"]
    assert outcome.training.trials[5].reason == "below the median of the other trials after 50%"
    assert outcome.training.trials[5].dev == 0.1


def test_the_time_limit_stops_the_trials_that_are_running(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_over, is_first = threading.Event(), threading.Lock()

    def script(rate: float, tell: Tell) -> float:
        if is_first.acquire(blocking=False):
            return 0.5
        is_over.set()
        until_stopped(tell, 0.5, 0.4)
        return 0.0

    script_training(monkeypatch, script)
    monkeypatch.setattr(tuning._Tuning, "_is_over", lambda _: is_over.is_set())
    asked = make_job(trials=6, space=SPACE, max_minutes=0.01, prune=False)
    outcome = search(asked, tmp_path / "found", ThreadWorkers(2), [])
    ends = [(each.outcome, each.reason) for each in outcome.training.trials]
    assert ends[0] == ("completed", "")
    assert set(ends[1:]) == {("stopped", "the time limit of 0.01 minutes")}
    assert len(ends) < 6


def test_a_trial_whose_workers_die_fails_alone_and_the_recipe_ends_the_search(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(rate: float, tell: Tell) -> float:
        if rate != 2e-3:
            raise WorkerError("worker processes died again and again")
        return 0.5

    script_training(monkeypatch, script)
    outcome = search(make_job(trials=6, space=SPACE), tmp_path / "a", ThreadWorkers(2), [])
    reasons = {each.settings["learning_rate"]: each.reason for each in outcome.training.trials}
    assert reasons.pop(2e-3) == ""
    assert set(reasons.values()) == {"worker processes died again and again"}
    assert outcome.training.trials[0].is_best

    def cannot(rate: float, tell: Tell) -> float:
        raise TooFewLabelsError("too few rows")

    script_training(monkeypatch, cannot)
    workers = ThreadWorkers(2)
    with pytest.raises(TooFewLabelsError, match="too few rows"):
        search(make_job(trials=2, space={"learning_rate": [3e-3]}), tmp_path / "b", workers, [])
    assert workers.is_stopped


def test_a_search_that_is_killed_goes_on_with_all_trials_that_were_running(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = make_job(trials=4, space=SPACE, prune=False)
    release, is_first = threading.Event(), threading.Lock()

    def script(rate: float, tell: Tell) -> float:
        if not is_first.acquire(blocking=False):  # the recipe ends, all others wait, whatever values they try
            release.wait(60)
        return 100 * rate

    class KilledWorkers(ThreadWorkers):
        def ended(self, seconds: float) -> list[tuple[int, TrialEnd | SbertError]]:
            if len(self.begun) == 3:  # the recipe ended, two others are running
                raise KeyboardInterrupt
            return super().ended(seconds)

    script_training(monkeypatch, script)
    killed = KilledWorkers(2)
    with pytest.raises(KeyboardInterrupt):
        search(job, tmp_path / "killed", killed, [])
    assert killed.is_stopped
    unfinished = [begun.settings.learning_rate for begun in killed.begun[1:]]
    release.set()
    workers = ThreadWorkers(2)
    outcome = search(job, tmp_path / "found", workers, [])
    assert [begun.settings.learning_rate for begun in workers.begun][:2] == unfinished
    assert len(workers.begun) == 3
    assert [each.outcome for each in outcome.training.trials] == ["completed"] * 4


def test_a_trial_in_a_worker_trains_the_encoder_and_tells_its_dev_values(make_job: MakeJob, tmp_path: Path) -> None:
    outcome = search(make_job(trials=2), tmp_path / "found", ThreadWorkers(1), [])
    assert [each.outcome for each in outcome.training.trials] == ["completed", "completed"]
    assert list(Path(outcome.training.folder).rglob("*.safetensors"))
    best = max(each.dev or 0.0 for each in outcome.training.trials)
    assert outcome.training.dev_best == best
