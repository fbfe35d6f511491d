"""The Typer application: groups of commands, ``--version``, and wrong usage as one JSON object where JSON was asked for."""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import typer
from typer.exceptions import TyperException

from flows.cli.help import Command, Group
from flows.prefect_defaults import set_defaults
from sbert.runtime.memory import share_heaps

set_defaults(is_command_line=True)  # before Prefect is imported
share_heaps()  # before libraries start threads: each would keep a heap of its own

__all__ = ["Panel", "app", "command"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Panel(StrEnum):
    """Groups of commands in ``sbert --help``."""

    JOBS = "Main jobs"
    APPLICATIONS = "Applications of vectors"
    MODELS = "Models and labels"
    LOOK = "Look"
    UPKEEP = "Upkeep"


class _JsonAwareGroup(Group):
    """Report wrong usage on standard output as JSON when ``--json`` is among the arguments."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        run = functools.partial(super().main, args, prog_name, complete_var, windows_expand_args=windows_expand_args)
        if "--json" not in (sys.argv[1:] if args is None else args):
            return run(standalone_mode=standalone_mode, **extra)
        try:
            status = run(standalone_mode=False, **extra)
        except TyperException as error:
            message = " ".join(error.format_message().split())
            print(json.dumps({"error": {"kind": "UsageError", "message": message}}, ensure_ascii=False))
            print(f"error: {message}", file=sys.stderr)
            status = error.exit_code
        sys.exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    cls=_JsonAwareGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: sbert refresh s3://bucket/raw s3://bucket/table --keep-columns title",
)


def command(panel: Panel, *, example: str, name: str | None = None) -> Callable[[Function], Function]:
    """Make a function a command of the group `panel`; the example is the last line of its help.

    The command has the function's name, or `name` where this is a name of Python.
    """
    return app.command(name, cls=Command, rich_help_panel=panel, epilog=f"Example: {example}")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"sbert {version('sbert-prefect')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Sentence-BERT on Prefect: raw text in object storage becomes a table of sentence embeddings."""
