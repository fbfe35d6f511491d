"""What every command shares: the app, arguments, errors as one line and an exit status, JSON or tables."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

# Before Prefect is imported: no telemetry; the UI gets every log line, the terminal the bar and our own warnings.
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "sbert,flows,tasks",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}.items():
    os.environ.setdefault(_name, _value)

from sbert.errors import SbertError  # noqa: E402
from sbert.runtime.memory import share_heaps  # noqa: E402

share_heaps()  # before libraries start threads: each would keep a heap of its own

__all__ = [
    "EngineOption",
    "Json",
    "ModelsUri",
    "RawUri",
    "TableUri",
    "app",
    "cell",
    "err",
    "errors",
    "out",
    "parse_engine",
    "parse_settings",
    "print_result",
    "read_settings",
]

Settings = TypeVar("Settings", bound=BaseModel)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sentence-BERT on Prefect: raw text in object storage becomes a table of sentence embeddings.",
)


def _location(uri: str) -> str:
    """Refuse credentials before a run is made: Prefect stores what a flow is called with."""
    from sbert.storage.files import check_no_credentials

    try:
        check_no_credentials(uri)
    except SbertError as error:
        raise typer.BadParameter(str(error)) from error
    return uri


RawUri = Annotated[
    str,
    typer.Argument(metavar="RAW_URI", help="File, folder or glob of raw text, local or s3://.", callback=_location),
]
TableUri = Annotated[
    str, typer.Argument(metavar="TABLE_URI", help="Folder of the table, local or s3://.", callback=_location)
]
ModelsUri = Annotated[
    str,
    typer.Argument(metavar="MODELS_URI", help="Folder of the model registry, local or s3://.", callback=_location),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Where splits are built: local, ray, dask, or a JSON object of its settings.")
]

LOG_WIDTH = 120
"""Columns of what is printed into a file or a pipe, when COLUMNS does not say otherwise."""

out = Console(
    soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH
)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """Turn errors into one line and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        fail(
            "stopped on request; what was finished is kept, run again to go on",
            "KeyboardInterrupt",
            130,
            as_json,
        )
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        fail(problems, "SettingsError", 1, as_json)
    except SbertError as error:
        fail(str(error), type(error).__name__, 1, as_json)


def fail(message: str, kind: str, status: int, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"error": {"kind": kind, "message": message}}, ensure_ascii=False))
    err.print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(status)


def print_result(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        show(result)
    sys.stdout.flush()


def parse_settings(text: str | None) -> Any:
    from sbert.refresh.job import RefreshSettings

    return read_settings(text, RefreshSettings)


def read_settings(text: str | None, kind: type[Settings]) -> Settings:
    """Read settings given as a JSON object or @file.json; all defaults when none are given."""
    from pathlib import Path

    from sbert import settings as wrong_settings
    from sbert.errors import SettingsError

    if text is None:
        return kind()
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--settings {text}: {error}") from error
    return wrong_settings.read_settings(kind, text)


def parse_engine(text: str) -> Any:
    from flows.engines import EngineSettings

    return read_settings(text, EngineSettings) if text.startswith("{") else EngineSettings.model_validate(text)


def cell(value: Any) -> str:
    from rich.markup import escape

    return escape(" ".join(str(value).split()))
