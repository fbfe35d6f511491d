"""Show the progress of a refresh: a line in the terminal, an artifact in the UI, a line a minute in the log."""

import logging
import time
from contextlib import ExitStack
from typing import Self

from sbert.counted import counted
from sbert.refresh.progress import Progress, describe_seconds
from sbert.refresh.stages import Stage
from tasks.progress import ProgressArtifact
from tasks.terminal import terminal

__all__ = ["ProgressDisplay", "describe_parts"]

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
"""Least time between two lines of progress in the log."""


class ProgressDisplay:
    """Shows every `Progress` it is given; a slow server does not hold the work up."""

    def __init__(self) -> None:
        """Prepare; nothing is shown yet."""
        self._stage: Stage | None = None
        self._logged = 0.0
        self._artifact = ProgressArtifact()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._artifact)
        self._stack.enter_context(terminal.shown())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, progress: Progress) -> None:
        """Show where the run is."""
        now = time.monotonic()
        text = progress.describe()
        share = progress.share
        terminal.update(describe_parts(progress), share)
        is_at_end = bool(progress.num_splits) and progress.num_splits_done == progress.num_splits
        if progress.stage is not self._stage or is_at_end or now - self._logged >= LOG_SECONDS:
            self._stage, self._logged = progress.stage, now
            log.info("%s", text)
        if progress.num_splits:
            self._artifact.show(share or 0.0, text, is_at_end=is_at_end)


def describe_parts(progress: Progress) -> list[str]:
    """Return the progress for a terminal, the most important part first: a narrow window shows the first ones."""
    if not progress.num_splits:
        return [progress.stage.value]
    rows = counted(progress.num_rows_done, "row")
    if progress.num_rows_expected:
        expected = max(progress.num_rows_expected, progress.num_rows_done)
        rows = f"{progress.num_rows_done:,} of about {counted(expected, 'row')}"
    parts = [f"{progress.stage.value} {rows}"]
    if progress.seconds_left is not None and progress.num_splits_done < progress.num_splits:
        parts.append(f"{describe_seconds(progress.seconds_left)} left")
    if progress.num_rows_done:
        parts.append(f"{progress.rows_per_second:,.0f} rows/s")
    if progress.num_splits > 1:
        parts.append(f"{progress.num_splits_done:,} of {counted(progress.num_splits, 'split')}")
    if progress.num_tokens_done:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    return parts
