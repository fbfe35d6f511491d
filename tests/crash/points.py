"""Count the calls of a run that write to storage, and kill the run at one of them.

Every call that changes storage, by the library, by s3fs or by delta-rs, is a point. ``Strike(number, when)`` acts at the
point of that number: before the call, after it, or while it runs.
"""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import s3fs
from deltalake import DeltaTable

from sbert.storage import files as storage
from sbert.table import commit

S3_WRITES = frozenset(
    {"put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload", "delete_object"}
)


@dataclass(frozen=True)
class Strike:
    """The moment to act: at the point `number` (counted from 0); ``during`` acts `delay` seconds after the call began."""

    number: int
    when: Literal["before", "after", "during"] = "before"
    delay: float = 0.0


def kill_this_process() -> None:
    """Kill this process at once, as a power cut, an evicted pod or the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Points:
    """Count the points that a run passes."""

    def __init__(self, strike: Strike | None, act: Callable[[], None]) -> None:
        self.names: list[str] = []
        self._strike = strike
        self._act = act
        self._lock = threading.Lock()

    def before(self, name: str) -> bool:
        """Record a point and return whether to act after it."""
        with self._lock:
            number = len(self.names)
            self.names.append(name)
        if self._strike is None or number < self._strike.number:
            return False
        if self._strike.when == "before" or number > self._strike.number:
            self._act()  # a dead process writes nothing more
        if self._strike.when == "during":
            threading.Thread(target=self._later, daemon=True).start()
        return self._strike.when == "after"

    def act(self) -> None:
        """Act now."""
        self._act()

    def _later(self) -> None:
        assert self._strike is not None
        time.sleep(self._strike.delay)
        self._act()


@contextlib.contextmanager
def watched(strike: Strike | None = None, act: Callable[[], None] = kill_this_process) -> Iterator[Points]:
    """Count the points that the block passes, and act at one of them."""
    points = Points(strike, act)
    with contextlib.ExitStack() as stack:
        for owner, name in (
            (os, "replace"),
            (os, "fsync"),
            (os, "remove"),
            (storage.OutputFile, "__init__"),
            (storage.OutputFile, "write"),
            (storage.OutputFile, "close"),
            (DeltaTable, "create_write_transaction"),
            (commit, "create_table_with_add_actions"),
        ):
            stack.enter_context(_replaced(owner, name, _wrap(points, name, getattr(owner, name))))
        call = s3fs.S3FileSystem._call_s3
        stack.enter_context(_replaced(s3fs.S3FileSystem, "_call_s3", _wrap_s3(points, call)))
        yield points


def _wrap(points: Points, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def at_point(*args: Any, **kwargs: Any) -> Any:
        act_after = points.before(name)
        result = call(*args, **kwargs)
        if act_after:
            points.act()
        return result

    return at_point


def _wrap_s3(points: Points, call: Callable[..., Any]) -> Callable[..., Any]:
    async def at_point(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        act_after = method in S3_WRITES and points.before(method)
        result = await call(self, method, *args, **kwargs)
        if act_after:
            points.act()
        return result

    return at_point


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
