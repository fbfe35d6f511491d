"""Answers of commands: tables or one JSON object on standard output, failures as one line and an exit status.

While a command runs with ``--json``, standard output belongs to the JSON object alone. Whatever libraries and worker
processes print goes to standard error.
"""

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import typer
from pydantic import ValidationError
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from sbert.errors import SbertError
from sbert.settings import problem
from sbert.storage.json_text import json_text
from tasks.terminal import terminal

__all__ = ["Output", "TextConsole", "answering", "cell", "err", "is_told_to_stop", "out"]

PIPE_WIDTH = 120
"""Columns of what is printed into a file or a pipe, when COLUMNS does not say otherwise."""
INTERRUPTED = 130
TERMINATED = 143
TERMINATION = "TerminationSignal"
"""Error that Prefect raises in a flow when the process gets SIGTERM."""
TRACEBACK_VARIABLE = "SBERT_TRACEBACK"
is_told_to_stop = threading.Event()
"""Set when a termination signal came."""

HANGING = 2
"""Columns by which the rest of a line is moved to the right."""


class TextConsole(Console):
    """A console whose lines of text break between words, so that a location stays whole and can be copied.

    In a terminal lines break at its width. In a file or a pipe a line stays one line, unless COLUMNS names a width.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; the rest of a line of text that is too long stands in the next lines, moved to the right."""
        columns = os.environ.get("COLUMNS", "") if self.soft_wrap and not self.stderr else ""
        if len(objects) == 1 and isinstance(objects[0], str) and (columns.isdigit() or not self.soft_wrap):
            width = int(columns) if columns else self.width
            objects, options = (_broken(objects[0], width),), {"soft_wrap": True} | options
        super().print(*objects, **options)


def _broken(text: str, width: int) -> str:
    """Return a text whose lines are broken between words; a word that is longer than a line stays whole."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + HANGING)
        part = ""
        for word in re.findall(r"\s*\S+", line):
            if part and cell_len(part + word) > width:
                lines.append(part)
                part = indent + word.lstrip()
            else:
                part += word
        lines.append(part)
    return "\n".join(lines)


out = TextConsole(
    soft_wrap=not sys.stdout.isatty(),
    highlight=False,
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH,
)
err = TextConsole(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


class Output:
    """Output of a command."""

    def __init__(self, *, as_json: bool, stream: TextIO) -> None:
        """Answer on `stream`: one JSON object, or text for people."""
        self.as_json = as_json
        self._stream = stream

    def print(self, result: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
        """Print a result as JSON, or let `show` print it for people."""
        terminal.hide()
        if self.as_json:
            self._print_json(result)
        else:
            show(result)
            sys.stdout.flush()

    def fail(self, message: str, kind: str, status: int = 1) -> NoReturn:
        """Print one line, with ``--json`` also one object, and end the command with an exit status."""
        terminal.hide()
        line = " ".join(part.strip() for part in message.splitlines() if part.strip())
        if self.as_json:
            self._print_json({"error": {"kind": kind, "message": line}})
        err.print(f"error: {line}", style="red", markup=False)
        raise typer.Exit(status)

    def _print_json(self, value: dict[str, Any]) -> None:
        print(json_text(value), file=self._stream, flush=True)


@contextmanager
def answering(*, as_json: bool) -> Iterator[Output]:
    """Yield the place where a command puts its answer, and turn every error into one line and an exit status."""
    with _kept_for_json(as_json) as stream:
        output = Output(as_json=as_json, stream=stream)
        try:
            with terminal.shown("starting"):
                yield output
        except (typer.Exit, TyperException, BrokenPipeError):
            raise  # Typer ends the command
        except KeyboardInterrupt:
            _ignore_signals()
            output.fail(
                "stopped on request; finished work is kept, run again to go on", "KeyboardInterrupt", INTERRUPTED
            )
        except ValidationError as error:
            output.fail(_problems(error), "SettingsError")
        except (SbertError, OSError) as error:
            output.fail(str(error), type(error).__name__)
        except Exception as error:
            if is_told_to_stop.is_set():  # an import was interrupted, and made another error of it
                _fail_as_terminated(output)
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            output.fail(
                f"unexpected {type(error).__name__}: {error} ({TRACEBACK_VARIABLE}=1 shows where; please report it)",
                type(error).__name__,
            )
        except BaseException as error:
            if type(error).__name__ != TERMINATION:  # Prefect's, which need not be loaded
                raise
            _fail_as_terminated(output)


def _fail_as_terminated(output: Output) -> NoReturn:
    _ignore_signals()
    output.fail("the process was told to stop; finished work is kept, run again to go on", TERMINATION, TERMINATED)


def _ignore_signals() -> None:
    """Let the clean-up that follows end: it takes a moment."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def cell(value: Any) -> str:
    """Return a value as one line, safe inside a Rich table."""
    return escape(" ".join(str(value).split()))


def _problems(error: ValidationError) -> str:
    return "; ".join(problem(item["loc"], item["msg"]) for item in error.errors(include_url=False))


@contextmanager
def _kept_for_json(as_json: bool) -> Iterator[TextIO]:
    """Keep standard output for JSON only, and send all other prints to standard error.

    Prints of C code and of child processes go to standard error too.
    """
    before = sys.stdout
    if not as_json:
        yield before
        return
    try:
        number = before.fileno()
    except (io.UnsupportedOperation, ValueError):
        number = None  # a stream in memory, as in tests
    before.flush()
    kept = os.dup(number) if number is not None else None
    stream = os.fdopen(kept, "w", encoding="utf-8") if kept is not None else before
    sys.stdout = sys.stderr
    if number is not None:
        os.dup2(sys.stderr.fileno(), number)
    try:
        yield stream
    finally:
        sys.stdout = before
        if number is not None and kept is not None:
            before.flush()
            stream.flush()
            os.dup2(kept, number)
            stream.close()
