"""A producer thread runs ahead, hands its errors on, and stops when nobody listens."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from sbert.runtime.prefetch import prefetch


def test_items_arrive_in_order() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))


def test_the_producer_runs_ahead_by_no_more_than_the_depth() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    items = prefetch(numbers(), 2)
    assert next(items) == 0
    time.sleep(0.3)
    assert 2 <= len(made) <= 4  # one used, two waiting, one being handed over
    items.close()


def test_an_error_of_the_producer_is_raised_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("third row")

    items = prefetch(broken(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="third row"):
        next(items)


def test_closing_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    items = prefetch(endless(), 2)
    next(items)
    items.close()
    assert closed.wait(5)
    assert threading.active_count() == before


LEFT_BEHIND = """
import atexit, threading
atexit.register(lambda: print(sorted(thread.name for thread in threading.enumerate())))  # runs last
import itertools
from sbert.runtime.prefetch import prefetch

items = prefetch(prefetch(itertools.count(), 2), 2)
next(items)
raise ValueError("the program ends here")
"""


def test_a_program_that_ends_by_an_error_leaves_no_producer_at_work() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "the program ends here" in done.stderr
    assert done.stdout == "['MainThread']\n"
