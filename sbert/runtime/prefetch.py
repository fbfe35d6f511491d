"""Run a generator ahead of its consumer, in a thread of its own, so that stages overlap.

A program that ends by an error may leave generators behind that nobody closed. Their threads are stopped before the
interpreter ends: a thread that still reads with Arrow then waits for ever, and the process with it.
"""

import atexit
import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["prefetch"]

Item = TypeVar("Item")


EXIT_SECONDS = 30.0
"""Time that the end of the program waits for the current item of a producer (seconds)."""
_running: dict[threading.Thread, threading.Event] = {}
"""Producers at work, and what stops each."""


@atexit.register
def _stop_producers() -> None:
    """Let every producer end with the item it is at."""
    for stopped in list(_running.values()):
        stopped.set()
    for producer in list(_running):
        producer.join(EXIT_SECONDS)


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    """The last item of a producer."""


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:  # noqa: C901  (two closures)
    """Yield the items of `items`; a thread makes up to `depth` of them ahead.

    An error of the producer is raised here, in its place. When the consumer stops early the producer stops too, after
    the item it is at. Memory holds at most `depth` + 2 items: waiting, being made, being used.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        last: object = _End()
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again where the items are used)
            last = _Failure(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        put(last)

    producer = threading.Thread(target=produce, name="prefetch", daemon=True)
    _running[producer] = stopped
    producer.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        producer.join()
        _running.pop(producer, None)
