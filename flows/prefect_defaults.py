"""Defaults for Prefect's own settings; a variable that the user has set wins.

Import this module before Prefect where the import order allows it. Where Prefect is loaded already, as in a script that
begins with ``from prefect import ...``, Prefect is told to read its environment again.
"""

import logging
import os
import sys

__all__ = ["SERVER_START_SECONDS", "set_defaults"]

SERVER_START_SECONDS = 90
"""Wait this long for Prefect's temporary server. Its own 20 seconds are too short on a busy machine."""

LOGGERS = ("sbert", "flows", "tasks")
"""Loggers whose lines belong into the log of a run."""
EVERYWHERE = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(SERVER_START_SECONDS),
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
    # The library also logs outside of runs, for example while settings are read.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
COMMAND_LINE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The UI gets every log line. The terminal gets the progress bar and this project's warnings.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""Settings that the ``sbert`` command adds: a script may want Prefect's log in its terminal."""


class _WithoutCompletions(logging.Filter):
    """Drop Prefect's line about each completed task: a run logs what it did, once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Finished in state Completed(")


_without_completions = _WithoutCompletions()


def set_defaults(*, is_command_line: bool = False) -> None:
    """Set environment variables that are not set yet, and make a loaded Prefect read them."""
    missing = {
        name: value
        for name, value in (EVERYWHERE | (COMMAND_LINE if is_command_line else {})).items()
        if name not in os.environ
    }
    os.environ.update(missing)
    if missing and "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
    for name in LOGGERS:  # Prefect adds its handlers, but leaves the level at that of the root logger: WARNING
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    logging.getLogger("prefect.task_runs").addFilter(_without_completions)  # the same one again adds nothing
