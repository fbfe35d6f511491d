"""Show the current work of a command in the last line of the terminal; nothing where there is no terminal.

A command opens the line before it imports the libraries that take seconds. The flow goes on with the same line.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["TerminalLine", "fit", "terminal"]

BAR_WIDTH = 16
RESERVED_WIDTH = BAR_WIDTH + 12
"""Columns of the spinner, the bar and the elapsed time."""


class TerminalLine:
    """A spinner, a bar where the share is known, and a text that fits the width."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare; nothing is shown yet."""
        self._console = console
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._num_users = 0

    @contextmanager
    def shown(self, text: str = "") -> Iterator[None]:
        """Show the line; nested uses share it, and the outermost one removes it."""
        with self._lock:
            self._num_users += 1
            if self._progress is None:
                self._open(text)
        try:
            if text:
                self.update([text])
            yield
        finally:
            with self._lock:
                self._num_users -= 1
                is_last = not self._num_users
            if is_last:
                self.hide()

    def update(self, parts: Sequence[str], share: float | None = None) -> None:
        """Show `parts`, the most important first, as many as fit; `share` of the work is done, from 0 to 1."""
        with self._lock:
            if self._progress is None:
                return
            room = self._progress.console.width - RESERVED_WIDTH
            self._progress.update(
                self._progress.task_ids[0],
                description=fit(parts, room),
                total=None if share is None else 1.0,
                completed=share or 0.0,
            )

    def hide(self) -> None:
        """Remove the line, before a result is printed."""
        with self._lock:
            progress, self._progress = self._progress, None
        if progress is not None:
            progress.stop()

    def _open(self, text: str) -> None:
        console = self._console or Console(stderr=True)
        if not console.is_terminal:
            return
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_WIDTH),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._progress.add_task(fit([text], console.width - RESERVED_WIDTH), total=None)
        self._progress.start()


def fit(parts: Sequence[str], room: int) -> str:
    """Return as many of the first parts, with commas between them, as fit into `room` columns; at least one."""
    text = parts[0]
    for part in parts[1:]:
        longer = f"{text}, {part}"
        if len(longer) > room:
            break
        text = longer
    return text if len(text) <= room else f"{text[: max(room - 1, 1)]}…"


terminal = TerminalLine()
"""The line of this process."""
