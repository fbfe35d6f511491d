"""The ``sbert`` command line: start the flows and look at their results without the Prefect UI.

``--json`` on any command prints one JSON object, and nothing else, on standard output. Exit status: 0 when everything
asked for was done, 1 when not, 2 for wrong usage, 130 after Ctrl-C. Each command has a module of its own, named after it.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C while its modules load ends it without a traceback, too."""
    try:
        from sbert.runtime.memory import cycle_searches

        with cycle_searches.load():
            from flows.cli.commands import app, show_warnings
    except KeyboardInterrupt:
        sys.exit(130)
    show_warnings()
    try:
        app()
    finally:
        # Python marks an interrupt that passes through code made of text, such as the making of a dataclass. At its end it
        # would then send itself SIGINT, though the interrupt was handled. Running any text takes the mark away.
        exec("")  # noqa: S102
