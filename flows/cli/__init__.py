"""The ``sbert`` command line: the flows and a look at what they made, without the Prefect UI.

``--json`` on any command prints one JSON object, and nothing else, on standard output. Exit status: 0 when everything
asked for was done, 1 when not, 2 for wrong usage, 130 after Ctrl-C. Each module of this package is one or two commands.
"""

import logging

from rich.logging import RichHandler

from flows.cli import (  # noqa: F401  (each adds its command)
    backfill,
    changes,
    inspect,
    models,
    refresh,
    report,
    retrain,
    rollback,
    sample,
    search,
    suggest,
    upkeep,
    verify,
)
from flows.cli.common import app, err  # first: it sets Prefect's environment

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    handler = RichHandler(console=err, show_time=False, show_path=False, show_level=True, level=logging.WARNING)
    for name in ("sbert", "flows", "tasks"):
        logging.getLogger(name).addHandler(handler)
    app()
