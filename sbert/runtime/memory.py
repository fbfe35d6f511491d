"""Keep a process' memory from growing with the time it has worked.

The C library (glibc) gives threads up to eight heaps per core, and memory that is freed in one heap cannot be used by
another. Each split starts its own threads, so during a long run more and more heaps hold blocks of vectors with unused
gaps between them. Therefore threads share one heap per core, and the unused memory of the heaps goes back to the system
from time to time. This happens often enough that the heaps do not grow, and seldom enough that encoding does not wait
for new pages.
"""

import ctypes
import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sbert.runtime.cpus import available_cpus

__all__ = ["CycleSearchPauses", "FreedMemory", "cycle_searches", "keep_freed_memory", "share_heaps"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 2**31 - 1
SECONDS = 1.0
"""Least time between two returns of free memory; one takes some ten milliseconds."""


@functools.cache
def share_heaps() -> bool:
    """Let threads share one heap a core, at least two; True where the C library can (glibc).

    Call it before there are many threads. ``MALLOC_ARENA_MAX`` in the environment has precedence.
    """
    library = _glibc()
    if library is None or "MALLOC_ARENA_MAX" in os.environ:
        return False
    return bool(library.mallopt(M_ARENA_MAX, max(2, available_cpus())))


@functools.cache
def keep_freed_memory() -> bool:
    """Keep the freed memory of a batch in the heaps, for the next batch; return True where the C library can (glibc).

    Asking the system for it again would cost a tenth of encoding's time; `FreedMemory` still returns it now and then.
    """
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


class CycleSearchPauses:
    """The pauses in which Python searches for no reference cycles; other garbage is freed as always.

    While many objects are made, Python looks at all objects again and again: a quarter of the time of a plan that compares
    100,000 source objects with the packs of a table.
    """

    def __init__(self) -> None:
        """Start without a pause."""
        self._num_open = 0
        self._lock = threading.Lock()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Search for no cycles meanwhile. The last of several pauses ends it; a search that is off anyway stays off."""
        with self._lock:
            counts = bool(self._num_open) or gc.isenabled()
            self._num_open += counts
            if counts:
                gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._num_open -= counts
                if counts and not self._num_open:
                    gc.enable()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Search for no cycles while modules load, and leave the objects of the modules out of all later searches.

        Modules live as long as the process. Without this, the first search after the pause would look at all their objects,
        and Python would take them apart when the process ends.
        A load that fails, or that finds all modules loaded, leaves out nothing: garbage would stay for good.
        """
        num_modules = len(sys.modules)
        with self.pause():
            yield
            if len(sys.modules) > num_modules:
                gc.freeze()


cycle_searches = CycleSearchPauses()


class FreedMemory:
    """Returns free memory to the system, at most once in `SECONDS`; threads may share it."""

    def __init__(self) -> None:
        """Begin to count the time."""
        self._given_back = time.monotonic()
        self._lock = threading.Lock()

    def give_back(self) -> None:
        """Return free memory of the heaps and of Arrow to the operating system, if it is time."""
        if time.monotonic() - self._given_back < SECONDS or not self._lock.acquire(blocking=False):
            return
        import pyarrow as pa  # here: the command line shares heaps before it loads anything

        try:
            library = _glibc()
            if library is not None:
                library.malloc_trim(0)
            pa.default_memory_pool().release_unused()
            self._given_back = time.monotonic()
        finally:
            self._lock.release()


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt, library.malloc_trim  # noqa: B018  (another C library lacks them)
    except (OSError, AttributeError):
        return None
    return library
