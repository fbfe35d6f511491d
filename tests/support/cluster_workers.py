"""Kill a worker process of a Ray or Dask cluster on this machine, as a machine that fails would."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil

__all__ = ["a_busy_worker_dies"]

BUSY_SECONDS = 1.0
"""Processor time after which a worker has begun to work."""


@contextlib.contextmanager
def a_busy_worker_dies(is_time: Callable[[], bool]) -> Iterator[list[int]]:
    """Kill one busy worker below this process when the time has come; gives its process id, none before.

    Args:
        is_time: asked every few milliseconds.
    """
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            busy = _busy_worker() if is_time() else None
            if busy is not None:
                killed.append(busy)  # before the kill: whoever sees the death finds the id here
                os.kill(busy, signal.SIGKILL)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def _busy_worker() -> int | None:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if _is_worker(process) and process.cpu_times().user > BUSY_SECONDS:
                return process.pid
    return None


def _is_worker(process: psutil.Process) -> bool:
    words = " ".join(process.cmdline())
    is_of_ray = "ray::" in words and "Agent" not in words  # a machine ends with Ray's agents
    return is_of_ray or ("spawn_main" in words and not process.children())
