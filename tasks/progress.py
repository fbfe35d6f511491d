"""Progress of a flow run in the Prefect UI: one artifact with a share and a line of text."""

import contextvars
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

__all__ = ["ProgressArtifact"]

log = logging.getLogger(__name__)

UPDATE_SECONDS = 2.0
"""Least time between two updates."""


class ProgressArtifact:
    """The progress artifact of the current flow run. A slow or missing server does not delay the work."""

    def __init__(self) -> None:
        """Prepare; the artifact is created when it is first shown."""
        self._id: UUID | None = None
        self._shown = 0.0
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._upload: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._uploads.shutdown(cancel_futures=False)
        self._warn_of_failure()

    def show(self, share: float, text: str, *, is_at_end: bool = False) -> None:
        """Show the share of the work that is done, from 0 to 1, and a line of text.

        Updates that come too fast, or while an earlier one is on its way, are passed over; the one at the end is not.
        """
        is_free = self._upload is None or self._upload.done()
        if not is_at_end and not (is_free and time.monotonic() - self._shown >= UPDATE_SECONDS):
            return
        self._warn_of_failure()
        self._shown = time.monotonic()
        self._upload = self._uploads.submit(contextvars.copy_context().run, self._send, round(100 * share, 1), text)

    def _send(self, percent: float, text: str) -> None:
        """Create the artifact at the first call, and update it at every later one."""
        if self._id is not None:
            update_progress_artifact(self._id, progress=percent, description=text)
            return
        created = create_progress_artifact(key="progress", progress=percent, description=text)
        assert isinstance(created, UUID)
        self._id = created

    def _warn_of_failure(self) -> None:
        if self._upload is not None and self._upload.done() and self._upload.exception() is not None:
            log.warning("progress cannot be shown in the UI: %s", self._upload.exception())
            self._upload = None
