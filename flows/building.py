"""Hand splits to workers, show how far they are, and stop them cleanly."""

import contextlib
import contextvars
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Self

from prefect.futures import PrefectFuture
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.engines import Engine
from sbert.refresh.build import BuildContext, BuildResult, builder_for
from sbert.refresh.plan import PlannedSplit
from sbert.refresh.scheduling import group_splits
from tasks.embed import Assignment, embed_splits
from tasks.report import open_progress, show_progress

__all__ = ["build_splits"]

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
"""Wait between two looks at how far local threads are."""
ARTIFACT_SECONDS = 2.0
"""Least time between two updates of the progress in the UI."""


def build_splits(
    planned: Sequence[PlannedSplit],
    context: BuildContext,
    engine: Engine,
    excluded_ids: Mapping[str, frozenset[str]] | None = None,
) -> list[BuildResult]:
    """Build splits, as many groups at once as the engine has workers; give their results in no particular order.

    An object that storage refuses even after retries counts as unreadable, like one that is broken; every other error
    stops the work at once.
    """
    if not planned:
        return []
    context = context.model_copy(update={"worker_threads": engine.worker_threads})
    builder = builder_for(context) if engine.worker_threads is None else None
    waiting = deque(
        group_splits(
            planned,
            excluded_ids or {},
            num_workers=engine.concurrency,
            max_splits=engine.settings.group_splits,
            max_bytes=engine.settings.group_bytes,
        )
    )
    results: list[BuildResult] = []
    done: SimpleQueue[PrefectFuture[list[BuildResult]]] = SimpleQueue()
    num_submitted = 0
    with SplitProgress(len(planned)) as progress:
        first_split = builder.num_splits_done if builder else 0
        try:
            while waiting or num_submitted:
                while waiting and num_submitted < engine.most_submitted:
                    assignment = Assignment(waiting.popleft(), context)
                    engine.submit(embed_splits, {"assignment": assignment}).add_done_callback(done.put)
                    num_submitted += 1
                with contextlib.suppress(Empty):
                    results += done.get(timeout=PROGRESS_SECONDS).result()
                    num_submitted -= 1
                if builder is not None:
                    progress.update(builder.num_splits_done - first_split, builder.num_rows_done)
                else:
                    progress.update(len(results), _rows_of(results))
        except BaseException:
            engine.stop(context.run_id)
            raise
    return results


def _rows_of(results: Sequence[BuildResult]) -> int:
    return sum(result.record.counts.num_rows_read for result in results if result.record is not None)


class SplitProgress:
    """Progress of the splits: a bar in the terminal, an artifact in the UI; a slow server does not hold the work up."""

    def __init__(self, num_splits: int) -> None:
        """Begin at none of `num_splits`."""
        self._num_splits = num_splits
        self._began = self._shown = time.monotonic()
        self._artifact = open_progress(f"0 of {num_splits} splits embedded")
        self._showing = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._shown_last: Future[None] | None = None
        self._bar = Progress(
            TextColumn("embedding"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("splits · {task.fields[num_rows]:,} rows · {task.fields[rate]:,.0f} rows/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=False,
        )
        self._bar_task = self._bar.add_task("embedding", total=num_splits, num_rows=0, rate=0.0)

    def __enter__(self) -> Self:
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.console.is_terminal:
            self._bar.stop()
        self._showing.shutdown(cancel_futures=False)

    def update(self, num_done: int, num_rows: int) -> None:
        """Show that `num_done` splits and `num_rows` rows are done."""
        now = time.monotonic()
        rate = num_rows / max(now - self._began, 1e-9)
        self._bar.update(self._bar_task, completed=num_done, num_rows=num_rows, rate=rate)
        is_due = now - self._shown >= ARTIFACT_SECONDS and (self._shown_last is None or self._shown_last.done())
        if is_due or num_done == self._num_splits:
            self._shown = now
            if self._shown_last is not None and self._shown_last.done() and self._shown_last.exception() is not None:
                log.warning("progress cannot be shown in the UI: %s", self._shown_last.exception())
            self._shown_last = self._showing.submit(
                contextvars.copy_context().run,
                show_progress,
                self._artifact,
                num_done / self._num_splits,
                f"{num_done:,} of {self._num_splits:,} splits embedded, {num_rows:,} rows, {rate:,.0f} rows/s",
            )
