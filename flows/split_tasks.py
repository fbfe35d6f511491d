"""Hand splits to the workers of an engine as Prefect tasks, and stop them cleanly."""

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture

from flows.engines import Engine
from sbert.errors import WorkerError
from sbert.refresh.build import BuildContext, builder_for
from sbert.refresh.build_result import BuildResult
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.progress import ProgressMeter, WorkDone
from sbert.refresh.scheduling import group_splits
from sbert.refresh.steps import PROGRESS_SECONDS
from tasks.embed import Assignment, embed_splits

__all__ = ["build_splits", "run_in_groups"]

Result = TypeVar("Result")

NAMED_SPLITS = 3
"""Splits that an error names."""


def build_splits(
    splits: Sequence[PlannedSplit],
    context: BuildContext,
    excluded_ids: Mapping[str, frozenset[str]],
    engine: Engine,
    meter: ProgressMeter,
) -> list[BuildResult]:
    """Build splits, as many groups at once as the engine has workers, and return their results in any order.

    An object that storage refuses even after retries counts as unreadable, like a broken object. Every other error stops
    the work at once. Threads of this process show each block of rows as progress, workers elsewhere each group.
    """
    context = context.model_copy(update={"worker_threads": engine.worker_threads})
    groups = group_splits(
        splits,
        excluded_ids,
        num_workers=engine.concurrency,
        max_splits=engine.settings.group_splits,
        max_bytes=engine.settings.group_bytes,
    )
    builder = None
    if engine.worker_threads is None:
        with meter.loading_encoder():
            builder = builder_for(context)
        builder.state.work.reset()

    def show(results: list[BuildResult]) -> None:
        if builder is not None:
            meter.show(builder.state.work.done(), is_indexed=builder.is_indexed)
        else:
            meter.show(WorkDone.of_results(results))

    work = [
        ({"assignment": Assignment(group, context)}, [planned.split.name for planned in group.splits])
        for group in groups
    ]
    return run_in_groups(
        engine, embed_splits, work, context.run_id, show, ", and `sbert backfill --include` builds these alone"
    )


def run_in_groups(
    engine: Engine,
    task: Task[..., list[Result]],
    groups: Sequence[tuple[dict[str, Any], list[str]]],
    run_id: str,
    show: Callable[[list[Result]], None],
    advice: str = "",
) -> list[Result]:
    """Run a task for each group, as many at once as the engine has workers; return the results of all in any order.

    Any error stops the work at once.

    Args:
        engine: where the task runs.
        task: returns the results of a group.
        groups: parameters of the task, and names of the splits for messages.
        run_id: the run that is stopped when a group fails.
        show: gets the results so far, every half second.
        advice: ends the message about workers that died again and again.
    """
    waiting = deque(groups)
    results: list[Result] = []
    names_of: dict[PrefectFuture[list[Result]], list[str]] = {}
    finished: SimpleQueue[PrefectFuture[list[Result]]] = SimpleQueue()
    try:
        while waiting or names_of:
            while waiting and len(names_of) < engine.most_submitted:
                parameters, names = waiting.popleft()
                future = engine.submit(task, parameters)
                names_of[future] = names
                future.add_done_callback(finished.put)
            with contextlib.suppress(Empty):
                future = finished.get(timeout=PROGRESS_SECONDS)
                results += _results_of(future, names_of.pop(future), engine, advice)
            show(results)
    except BaseException:
        engine.stop(run_id)
        raise
    return results


def _results_of(
    future: PrefectFuture[list[Result]], names: list[str], engine: Engine, advice: str = ""
) -> list[Result]:
    """Return the results of a group.

    Raises:
        WorkerError: workers that had the group died again and again; the message names its splits.
    """
    try:
        return future.result()
    except Exception as error:
        if not engine.is_worker_death(error):
            raise
        shown = ", ".join(names[:NAMED_SPLITS]) + (
            f" and {len(names) - NAMED_SPLITS} more" * (len(names) > NAMED_SPLITS)
        )
        raise WorkerError(
            f"engine {engine.settings.kind}: worker processes died again and again while they built {shown} "
            f"({type(error).__name__}). Give each worker more memory or lower concurrency; finished splits are kept{advice}"
        ) from error
