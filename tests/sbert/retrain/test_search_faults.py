"""A search of settings that is killed at any moment, and faults of trials, labels and storage on its way."""

import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from sbert.errors import LabelError, SbertError, TrainingError
from sbert.retrain import label_rows, study
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.settings import RetrainJob
from sbert.retrain.trial import TrialEnd, TrialJob
from sbert.retrain.tuning import TuningOutcome, tune_candidate
from tests.sbert.retrain.scripted_search import (
    SPACE,
    MakeJob,
    Tell,
    ThreadWorkers,
    script_training,
    search,
)

RECIPE = {"learning_rate": 2e-3, "batch_size": 16}


def search_here(job: RetrainJob, folder: Path) -> TuningOutcome:
    return tune_candidate(job, find_inputs(job, "run"), folder)


def kill_at_write(monkeypatch: pytest.MonkeyPatch, num_written: int) -> None:
    """Let the process end when it has written the journal so many times."""
    real, count = study.write_bytes, [0]

    def write(uri: str, content: bytes) -> None:
        if uri.endswith("study.jsonl"):
            if count[0] == num_written:
                raise KeyboardInterrupt
            count[0] += 1
        real(uri, content)

    monkeypatch.setattr(study, "write_bytes", write)


@pytest.mark.parametrize("num_written", range(1, 10))
def test_a_kill_at_any_write_of_the_journal_leaves_the_recipe_the_first_trial(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_written: int
) -> None:
    job = make_job(trials=3, prune=False)
    script_training(monkeypatch, lambda rate, tell: 100 * rate)
    with monkeypatch.context() as patched:
        kill_at_write(patched, num_written)
        with pytest.raises(KeyboardInterrupt):
            search(job, tmp_path / "killed", ThreadWorkers(1), [])
    outcome = search(job, tmp_path / "found", ThreadWorkers(1), [])
    assert outcome.training.trials[0].settings == RECIPE
    assert [each.outcome for each in outcome.training.trials] == ["completed"] * 3
    left = Path(find_inputs(job, "run").checkpoints_uri, "search")
    assert not list(left.glob("trial-*"))
    assert len(list(left.glob("best/checkpoint-*/_complete.json"))) == 1


@pytest.mark.parametrize("num_written", range(8))
def test_a_second_kill_while_the_search_is_taken_up_loses_nothing(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_written: int
) -> None:
    job = make_job(trials=3, prune=False)

    def killed(rate: float, tell: Tell) -> float:
        raise KeyboardInterrupt

    script_training(monkeypatch, killed)
    with pytest.raises(KeyboardInterrupt):
        search_here(job, tmp_path / "first")
    script_training(monkeypatch, lambda rate, tell: 100 * rate)
    with monkeypatch.context() as patched:
        kill_at_write(patched, num_written)
        with pytest.raises(KeyboardInterrupt):
            search(job, tmp_path / "second", ThreadWorkers(1), [])
    trials = search(job, tmp_path / "found", ThreadWorkers(1), []).training.trials
    assert [each.settings for each in trials].count(RECIPE) == 1
    assert len(trials) == 3


@pytest.mark.parametrize("has_workers", [False, True])
def test_settings_that_do_not_fit_together_fail_alone(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_workers: bool
) -> None:
    script_training(monkeypatch, lambda rate, tell: 100 * rate)
    space = {"freeze": ["all_but_head", "layers", "embeddings", "nothing"], "learning_rate": [2e-3, 3e-3]}
    job = make_job(trials=10, space=space)
    workers = ThreadWorkers(2) if has_workers else None
    outcome = tune_candidate(job, find_inputs(job, "run"), tmp_path / "found", None, workers)
    failed = [each for each in outcome.training.trials if each.outcome == "failed"]
    assert len(outcome.training.trials) == 10
    assert failed
    assert all("freeze_layers is 0" in each.reason for each in failed)


def test_labels_that_change_end_the_search(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = make_job(trials=4, space=SPACE, prune=False)
    labels = Path(job.labels_uri)

    class ForgetfulWorkers(ThreadWorkers):
        def begin(self, job: TrialJob) -> None:
            if len(self.begun) == 1:
                labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-10]))
                label_rows._read_rows.cache_clear()  # another process has no rows in memory
            super().begin(job)

    script_training(monkeypatch, lambda rate, tell: 100 * rate)
    workers = ForgetfulWorkers(1)
    with pytest.raises(LabelError, match="changed during the run"):
        search(job, tmp_path / "found", workers, [])
    assert workers.is_stopped


def test_ctrl_c_stops_trials_that_the_engine_cannot_end(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both, ended = threading.Barrier(3, timeout=60), []

    def script(rate: float, tell: Tell) -> float:
        both.wait()
        for _ in range(3_000):
            tell(0.5, 0.3)
            time.sleep(0.02)
        ended.append(rate)
        return rate

    class InterruptedWorkers(ThreadWorkers):
        def ended(self, seconds: float) -> list[tuple[int, TrialEnd | SbertError]]:
            both.wait()
            raise KeyboardInterrupt

    script_training(monkeypatch, script)
    workers = InterruptedWorkers(2)
    with pytest.raises(KeyboardInterrupt):
        search(make_job(trials=3, space=SPACE, prune=False), tmp_path / "found", workers, [])
    workers.close()
    assert not ended


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 3 GiB"), RuntimeError("CUDA out of memory")])
def test_a_trial_without_memory_fails_alone_and_holds_none(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    class Model:
        """Stands for what a training holds."""

    models: list[weakref.ref[Model]] = []
    alive: list[bool] = []

    def script(rate: float, tell: Tell) -> float:
        alive.extend(model() is not None for model in models)
        if rate == 2e-3:
            return 0.5
        model = Model()
        models.append(weakref.ref(model))
        raise type(error)(*error.args)

    script_training(monkeypatch, script)
    trials = search_here(make_job(trials=5, space=SPACE, prune=False), tmp_path / "found").training.trials
    assert "out of memory with batches of 16: lower training.batch_size" in {
        each.reason.partition(" (")[0] for each in trials
    }
    assert alive
    assert not any(alive)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"{", "line 1: "), (b"\x00" * 20, "line 1: "), (b"{}\n[1]\n", "line 2: list in place of an object")],
)
def test_a_damaged_journal_is_named_with_the_remedy(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, why: str
) -> None:
    job = make_job(trials=2, space=SPACE)
    script_training(monkeypatch, lambda rate, tell: rate)
    journal = Path(find_inputs(job, "run").checkpoints_uri, "search", "study.jsonl")
    journal.parent.mkdir(parents=True)
    journal.write_bytes(content)
    with pytest.raises(TrainingError, match=r"study\.jsonl: the journal of the search is damaged") as raised:
        search_here(job, tmp_path / "found")
    assert why in str(raised.value)
    assert "remove this file" in str(raised.value)


def test_damaged_messages_of_a_trial_count_as_none(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class DamagingWorkers(ThreadWorkers):
        def begin(self, job: TrialJob) -> None:
            Path(job.folder_uri).mkdir(parents=True, exist_ok=True)
            for name in ("values.json", "stop.json"):
                Path(job.folder_uri, name).write_bytes(b"[")
            super().begin(job)

    def script(rate: float, tell: Tell) -> float:
        tell(0.5, 1.0)
        return 100 * rate

    script_training(monkeypatch, script)
    outcome = search(make_job(trials=2, space=SPACE), tmp_path / "found", DamagingWorkers(1), [])
    assert [each.outcome for each in outcome.training.trials] == ["completed", "completed"]


@pytest.mark.parametrize("num_failures", [1, 100])
def test_a_folder_that_cannot_be_removed_ends_no_search(
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    num_failures: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, failures = LocalFileSystem.rm, []

    def rm(self: LocalFileSystem, path: str, *args: Any, **options: Any) -> None:
        if len(failures) < num_failures:
            failures.append(path)
            raise ConnectionResetError("connection reset by peer")
        real(self, path, *args, **options)

    def script(rate: float, tell: Tell) -> float:
        tell(0.5, 1.0)
        return 100 * rate

    monkeypatch.setenv("SBERT_STORAGE_SECONDS", "0.3")
    script_training(monkeypatch, script)
    monkeypatch.setattr(LocalFileSystem, "rm", rm)
    outcome = search(make_job(trials=2, space=SPACE), tmp_path / "found", ThreadWorkers(1), [])
    assert [each.outcome for each in outcome.training.trials] == ["completed", "completed"]
    assert ("could not be removed" in caplog.text) == (num_failures > 1)


def test_trials_with_other_batch_sizes_are_compared_after_the_same_part_of_training(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = make_job(trials=1, space=SPACE, prune=False)
    epochs = job.settings.training_for(find_inputs(job, "run").labels.kind).epochs

    def script(rate: float, tell: Tell) -> float:
        for number in range(1, 8):  # seven evaluations where four were asked for
            tell(number / 7, number / 10)
        return 0.7

    script_training(monkeypatch, script)
    assert epochs == 4
    search_here(job, tmp_path / "found")
    journal = study.StudyJournal(str(Path(find_inputs(job, "run").checkpoints_uri, "search", "study.jsonl")))
    reports = {
        entry["step"]: entry["intermediate_value"] for entry in journal.read_logs(0) if "intermediate_value" in entry
    }
    assert reports == {1: 0.2, 2: 0.4, 3: 0.6, 4: 0.7}  # the first value after each quarter
