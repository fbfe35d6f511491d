"""Hand splits to the workers of an engine as Prefect tasks, and stop them cleanly."""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue

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

__all__ = ["build_splits"]

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
    builder = builder_for(context) if engine.worker_threads is None else None
    if builder is not None:
        builder.state.work.reset()
    waiting = deque(
        group_splits(
            splits,
            excluded_ids,
            num_workers=engine.concurrency,
            max_splits=engine.settings.group_splits,
            max_bytes=engine.settings.group_bytes,
        )
    )
    results: list[BuildResult] = []
    names_of: dict[PrefectFuture[list[BuildResult]], list[str]] = {}
    finished: SimpleQueue[PrefectFuture[list[BuildResult]]] = SimpleQueue()
    num_submitted = 0
    try:
        while waiting or num_submitted:
            while waiting and num_submitted < engine.most_submitted:
                assignment = Assignment(waiting.popleft(), context)
                future = engine.submit(embed_splits, {"assignment": assignment})
                names_of[future] = [planned.split.name for planned in assignment.group.splits]
                future.add_done_callback(finished.put)
                num_submitted += 1
            with contextlib.suppress(Empty):
                future = finished.get(timeout=PROGRESS_SECONDS)
                results += _results_of(future, names_of.pop(future), engine)
                num_submitted -= 1
            if builder is not None:
                meter.show(builder.state.work.done(), is_indexed=builder.is_indexed)
            else:
                meter.show(WorkDone.of_results(results))
    except BaseException:
        engine.stop(context.run_id)
        raise
    return results


def _results_of(future: PrefectFuture[list[BuildResult]], names: list[str], engine: Engine) -> list[BuildResult]:
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
            f"({type(error).__name__}). Give each worker more memory or lower concurrency; finished splits are kept, and "
            "`sbert backfill --include` builds these alone"
        ) from error
