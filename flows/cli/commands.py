"""Every command of the command line, in the order of ``sbert --help``."""

import logging
from importlib import import_module

from flows.cli.app import app
from flows.cli.output import err

__all__ = ["app", "show_warnings"]

COMMANDS = (
    *("sample", "refresh", "backfill", "search", "index", "index_words", "sync"),
    *("align", "answer", "classify", "duplicates", "entities", "explain", "map", "monitor"),
    *("neighbours", "recommend", "relations", "summarize", "topics"),
    *("retrain", "models", "suggest", "doctor"),
    *("inspect", "report", "changes", "settings"),
    *("compact", "vacuum", "verify", "reconcile", "rollback", "forget", "erase"),
)
"""Modules of the commands; each adds its command to the application, in the order of the help."""

for _name in COMMANDS:
    import_module(f"flows.cli.{_name}")


class _WarningLines(logging.Handler):
    """Print this project's warnings as whole lines, above the progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow", markup=False)


def show_warnings() -> None:
    """Print warnings of this project on standard error."""
    handler = _WarningLines(level=logging.WARNING)
    for name in ("sbert", "flows", "tasks"):
        logging.getLogger(name).addHandler(handler)
