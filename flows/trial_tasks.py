"""Try the settings of a search on the workers of an engine, a Prefect task for each trial."""

import contextlib
from pathlib import Path
from queue import Empty, SimpleQueue

from prefect.futures import PrefectFuture

from flows.engines import Engine, EngineKind, EngineSettings
from sbert.errors import SbertError, SettingsError, WorkerError
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.settings import RetrainJob
from sbert.retrain.trial import TrialEnd, TrialJob
from sbert.retrain.tuning import TuningOutcome
from tasks.retrain import search_settings
from tasks.try_settings import TrialAssignment, try_settings

__all__ = ["check_engine_of_search", "search_on_workers"]


def check_engine_of_search(engine: EngineSettings, concurrency: int, *, has_search: bool) -> None:
    """Check that trials can run as they are asked to.

    Raises:
        SettingsError: workers without a search, or several trials at once in this process.
    """
    if engine.kind is EngineKind.LOCAL:
        if concurrency > 1:
            raise SettingsError(
                f"concurrency is {concurrency}, but engine local runs the trials of a search one after the other: choose "
                "engine ray or dask, or leave concurrency out"
            )
    elif not has_search:
        raise SettingsError(
            f"engine {engine.kind} runs the trials of a search side by side, but no search is asked for: set search (such "
            "as 20 trials), or leave the engine out"
        )


def search_on_workers(
    job: RetrainJob, inputs: RetrainInputs, folder: Path, *, engine: EngineSettings, concurrency: int
) -> TuningOutcome:
    """Try settings side by side; the search itself stays in the process of the flow.

    Raises:
        SbertError: as `sbert.retrain.tuning.tune_candidate`; SettingsError when the cluster cannot be reached.
    """
    workers = _Workers(Engine(engine, concurrency, stop_run=_do_nothing, close_run=_do_nothing), inputs.run_id)
    try:
        return search_settings(job, inputs, folder, workers)
    finally:
        workers.close()


class _Workers:
    """The workers of an engine, as a search needs them (`sbert.retrain.tuning.TrialWorkers`)."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine, self._run_id = engine, run_id
        self.num_at_once = engine.concurrency
        self.num_threads = engine.worker_threads
        self._numbers: dict[PrefectFuture[TrialEnd], int] = {}
        self._finished: SimpleQueue[PrefectFuture[TrialEnd]] = SimpleQueue()

    def begin(self, trial: TrialJob) -> None:
        future = self._engine.submit(try_settings, {"assignment": TrialAssignment(trial)})
        self._numbers[future] = trial.number
        future.add_done_callback(self._finished.put)

    def ended(self, seconds: float) -> list[tuple[int, TrialEnd | SbertError]]:
        with contextlib.suppress(Empty):
            future = self._finished.get(timeout=seconds)
            return [(self._numbers.pop(future), self._end_of(future))]
        return []

    def _end_of(self, future: PrefectFuture[TrialEnd]) -> TrialEnd | SbertError:
        try:
            return future.result()
        except SbertError as error:
            return error
        except Exception as error:
            if not self._engine.is_worker_death(error):
                raise
            return WorkerError(
                f"engine {self._engine.settings.kind}: worker processes died again and again while they tried these "
                f"settings ({type(error).__name__}): give each worker more memory, or lower the batch sizes of search.space"
            )

    def stop(self) -> None:
        self._engine.stop(self._run_id)

    def close(self) -> None:
        self._engine.close(self._run_id)


def _do_nothing(run_id: str) -> None:
    """Do nothing in a worker: the search tells each trial to stop, by a file that the trial looks for."""
