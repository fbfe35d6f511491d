"""The ``sbert`` command line: the flows and a look at what they made, without the Prefect UI.

``--json`` on any command prints one JSON object, and nothing else, on standard output. Exit status: 0 when everything
asked for was done, 1 when not, 2 for wrong usage, 130 after Ctrl-C. Each module of this package is one or two commands.
"""

import logging

from flows.cli import (  # noqa: F401  (each adds its command)
    backfill,
    changes,
    doctor,
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


class _WarningLines(logging.Handler):
    """Print warnings of this project as whole lines, above the progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow", markup=False)


def main() -> None:
    """Run the command line."""
    handler = _WarningLines(level=logging.WARNING)
    for name in ("sbert", "flows", "tasks"):
        logging.getLogger(name).addHandler(handler)
    app()
