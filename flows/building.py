"""Hand splits to workers, show how far they are, and stop them cleanly."""

import time
from collections.abc import Mapping, Sequence
from typing import Self

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sbert.build import BuildContext, BuildResult, builder_for
from sbert.errors import StorageError
from sbert.plan import PlannedSplit
from tasks.embed import embed_split
from tasks.report import open_progress, show_progress

__all__ = ["build_splits"]

ARTIFACT_SECONDS = 2.0
"""Least time between two updates of the progress in the UI."""


def build_splits(
    planned: Sequence[PlannedSplit],
    context: BuildContext,
    concurrency: int,
    excluded_ids: Mapping[str, frozenset[str]] | None = None,
) -> list[BuildResult]:
    """Build splits, `concurrency` at once; give their results in no particular order.

    An object that storage refuses even after retries counts as unreadable, like one that is broken; every other error
    stops the work at once.
    """
    if not planned:
        return []
    builder = builder_for(context)
    excluded = excluded_ids or {}
    results: list[BuildResult] = []
    with (
        ThreadPoolTaskRunner[BuildResult](max_workers=concurrency) as runner,
        SplitProgress(len(planned)) as progress,
    ):
        try:
            futures: dict[PrefectFuture[BuildResult], PlannedSplit] = {
                runner.submit(
                    embed_split,
                    {
                        "planned": item,
                        "context": quote(context),
                        "excluded_ids": quote(excluded.get(item.fingerprint, frozenset())),
                    },
                ): item
                for item in planned
            }
            for future in as_completed(list(futures)):
                results.append(_outcome(future, futures[future]))
                progress.update(len(results), builder.num_rows_done)
        except BaseException:
            builder.stop.set()  # threads cannot be interrupted: they look at this between batches
            raise
    return results


def _outcome(future: PrefectFuture[BuildResult], planned: PlannedSplit) -> BuildResult:
    try:
        return future.result()
    except StorageError as error:
        objects = {span.object.uri for span in planned.split.spans}
        if error.uri not in objects:
            raise
        return BuildResult(planned=planned, broken=dict.fromkeys(objects, str(error)))


class SplitProgress:
    """Progress of the splits: a bar in the terminal, an artifact in the UI."""

    def __init__(self, num_splits: int) -> None:
        """Begin at none of `num_splits`."""
        self._num_splits = num_splits
        self._began = self._shown = time.monotonic()
        self._artifact = open_progress(f"0 of {num_splits} splits embedded")
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

    def update(self, num_done: int, num_rows: int) -> None:
        """Show that `num_done` splits and `num_rows` rows are done."""
        now = time.monotonic()
        rate = num_rows / max(now - self._began, 1e-9)
        self._bar.update(self._bar_task, completed=num_done, num_rows=num_rows, rate=rate)
        if now - self._shown >= ARTIFACT_SECONDS or num_done == self._num_splits:
            self._shown = now
            show_progress(
                self._artifact,
                num_done / self._num_splits,
                f"{num_done:,} of {self._num_splits:,} splits embedded, {num_rows:,} rows, {rate:,.0f} rows/s",
            )
