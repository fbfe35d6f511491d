"""Retry storage operations: object stores throttle, reset connections, time out and cut answers off.

All clients share one retry loop around operations that can be repeated. Its limit is a time, not a number of attempts.
It works below the retries of whole tasks, so a split with thousands of requests survives some failures.
"""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sbert.errors import SettingsError, StorageError
from sbert.storage.errors import translate_errors

__all__ = ["storage_seconds", "try_again"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SECONDS_VARIABLE = "SBERT_STORAGE_SECONDS"
DEFAULT_SECONDS = 60.0
FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0


def storage_seconds() -> float:
    """Return the time in which one operation on storage must succeed, retries included.

    Raises:
        SettingsError: when the environment variable is not a number above 0.
    """
    value = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(value) if value else DEFAULT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{SECONDS_VARIABLE} is {value!r}, expected seconds above 0, for example 60")
    return seconds


def try_again(uri: str, operation: Callable[[], Result]) -> Result:
    """Run an operation and retry it while storage fails temporarily.

    Raises:
        StorageError: at once when a retry cannot help, else after `storage_seconds`; the error names `uri`.
    """
    deadline = time.monotonic() + storage_seconds()
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            with translate_errors(uri):
                return operation()
        except StorageError as error:
            pause = wait * random.uniform(0.5, 1.5)  # noqa: S311  (spreads clients, hides nothing)
            if not error.transient or time.monotonic() + pause > deadline:
                raise
            log.debug("retrying in %.2f s: %s", pause, error)
        time.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
