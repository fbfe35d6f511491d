"""Splits are handed to workers as groups; a group whose workers die again and again is named."""

from typing import Any

import pytest

from flows.engines import Engine, EngineSettings
from flows.split_tasks import _results_of
from sbert.errors import QualityError, WorkerError


class Failed:
    """A future whose task ended in an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> Any:
        raise self.error


def error_of(module: str, name: str, message: str) -> Exception:
    """Return an error as a package raises it that is not installed here."""
    kind = type(name, (Exception,), {"__module__": module})
    error: Exception = kind(message)
    return error


@pytest.mark.parametrize(
    "error",
    [
        error_of("distributed.scheduler", "KilledWorker", "Attempted to run task on 4 different workers"),
        error_of("ray.exceptions", "WorkerCrashedError", "The worker died unexpectedly"),
        error_of("ray.exceptions", "OutOfMemoryError", "Task was killed due to the node running low on memory"),
        error_of("prefect.exceptions", "CrashedRun", "unexpected exception: WorkerCrashedError: The worker died"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_workers_that_die_again_and_again_end_in_an_error_that_names_the_splits(error: Exception) -> None:
    engine = Engine(EngineSettings.model_validate("ray"), 2)
    names = [f"part-{number}.jsonl" for number in range(5)]
    future: Any = Failed(error)
    with pytest.raises(
        WorkerError, match=r"engine ray: .* died again and again while they built part-0.jsonl, .* and 2 more \("
    ):
        _results_of(future, names, engine)


def test_every_other_error_of_a_worker_stays_what_it_is() -> None:
    engine = Engine(EngineSettings.model_validate("dask"), 2)
    for error in (QualityError("NaN"), error_of("torch", "OutOfMemoryError", "CUDA out of memory")):
        future: Any = Failed(error)
        with pytest.raises(type(error)):
            _results_of(future, ["a"], engine)


def test_an_error_in_the_chain_counts() -> None:
    engine = Engine(EngineSettings.model_validate("dask"), 2)
    outer = RuntimeError("the task failed")
    outer.__cause__ = error_of("distributed.scheduler", "KilledWorker", "died")
    future: Any = Failed(outer)
    with pytest.raises(WorkerError, match=r"while they built a \(RuntimeError\)"):
        _results_of(future, ["a"], engine)
