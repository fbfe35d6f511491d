"""Show the progress of a refresh: a bar in the terminal, an artifact in the UI, a line a minute in the log."""

import contextvars
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from sbert.refresh.progress import Progress
from sbert.refresh.stages import Stage
from tasks.report import open_progress, show_progress

__all__ = ["ProgressDisplay"]

log = logging.getLogger(__name__)

ARTIFACT_SECONDS = 2.0
"""Least time between two updates of the progress in the UI."""
LOG_SECONDS = 60.0
"""Least time between two lines of progress in the log."""


class ProgressDisplay:
    """Shows every `Progress` it is given; a slow server does not hold the work up."""

    def __init__(self) -> None:
        """Prepare; nothing is shown yet."""
        self._stage: Stage | None = None
        self._artifact: UUID | None = None
        self._artifact_shown = self._logged = 0.0
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._upload: Future[None] | None = None
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True)
        )
        self._bar_task = self._bar.add_task("planning", total=None)

    def __enter__(self) -> Self:
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.console.is_terminal:
            self._bar.stop()
        self._uploads.shutdown(cancel_futures=False)

    def show(self, progress: Progress) -> None:
        """Show where the run is."""
        now = time.monotonic()
        text = progress.describe()
        share = progress.share
        self._bar.update(self._bar_task, description=text, total=None if share is None else 1.0, completed=share or 0.0)
        is_at_end = bool(progress.num_splits) and progress.num_splits_done == progress.num_splits
        if progress.stage is not self._stage or is_at_end or now - self._logged >= LOG_SECONDS:
            self._stage, self._logged = progress.stage, now
            log.info("%s", text)
        if progress.num_splits:
            self._show_in_ui(share or 0.0, text, is_due=is_at_end or now - self._artifact_shown >= ARTIFACT_SECONDS)

    def _show_in_ui(self, share: float, text: str, *, is_due: bool) -> None:
        if self._artifact is None:
            self._artifact = open_progress(text)
        if not is_due or not (share == 1.0 or self._upload is None or self._upload.done()):
            return
        if self._upload is not None and self._upload.done() and self._upload.exception() is not None:
            log.warning("progress cannot be shown in the UI: %s", self._upload.exception())
        self._artifact_shown = time.monotonic()
        self._upload = self._uploads.submit(contextvars.copy_context().run, show_progress, self._artifact, share, text)
