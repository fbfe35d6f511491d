"""Compute batches side by side on a CPU: one batch for each core, instead of all cores on one batch.

A batch that one core computes alone stays in that core's cache, and no core waits for another between two operations. Only a
job that is too small for all cores has batches that several cores compute together (`sharing.py`). The process keeps the
memory that a batch frees, because requesting it from the system again would take a tenth of the time.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from sbert.encoder.engine.runner_selection import Runner
from sbert.encoder.engine.transfer import copy_to_cpu
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.runtime.memory import keep_freed_memory

__all__ = ["compute_batches", "num_workers"]

BATCHES_IN_FLIGHT = 4
"""Batches that are started on an accelerator before the first is waited for. Later ones are laid out meanwhile."""

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def num_workers(device: torch.device) -> int:
    """Return the number of threads that compute: one for each core of a CPU, one on an accelerator."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def compute_batches(
    runner: Runner,
    tokens: TokenizedTexts,
    batches: Iterable[Any],
    workers: int,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[tuple[Any, Tensor | RuntimeError], None, None]:
    """Compute batches. Yield each, in order, with its vectors on the CPU, or with the error in which it ended.

    Raises:
        InterruptedError: when `should_stop` returned True before a batch.
    """
    if workers == 1:
        yield from _in_turn(runner, tokens, batches, should_stop)
        return
    listed = list(batches)
    if len(listed) == 1:
        yield listed[0], _await(_compute(runner, tokens, listed[0], should_stop))
        return
    pool = _pool(workers)
    futures = [pool.submit(_compute, runner, tokens, batch, should_stop) for batch in listed]
    try:
        for batch, future in zip(listed, futures, strict=True):
            yield batch, _await(future.result())
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _in_turn(
    runner: Runner, tokens: TokenizedTexts, batches: Iterable[Any], should_stop: Callable[[], bool] | None
) -> Iterator[tuple[Any, Tensor | RuntimeError]]:
    """Start batches one after the other. An accelerator gets the next batches before the first is waited for."""
    started: deque[tuple[Any, Callable[[], Tensor] | RuntimeError]] = deque()
    for batch in batches:
        started.append((batch, _compute(runner, tokens, batch, should_stop)))
        if len(started) == BATCHES_IN_FLIGHT:
            first, outcome = started.popleft()
            yield first, _await(outcome)
    for batch, outcome in started:
        yield batch, _await(outcome)


def _await(outcome: Callable[[], Tensor] | RuntimeError) -> Tensor | RuntimeError:
    return outcome if isinstance(outcome, RuntimeError) else outcome()


def _compute(
    runner: Runner, tokens: TokenizedTexts, batch: Any, should_stop: Callable[[], bool] | None
) -> Callable[[], Tensor] | RuntimeError:
    """Start a batch. Return a function that waits for its vectors, or the error in which it ended."""
    if should_stop is not None and should_stop():
        raise InterruptedError("encoding was stopped on request")
    try:
        with torch.inference_mode():
            return copy_to_cpu(runner.run(tokens, batch))
    except RuntimeError as error:
        error.__context__ = None
        return error.with_traceback(None)  # its frames would keep the memory that the batch allocated


def _pool(workers: int) -> ThreadPoolExecutor:
    """Return this process's threads. Each computes with its share of the cores."""
    with _lock:
        if workers not in _pools:
            keep_freed_memory()
            share = max(1, torch.get_num_threads() // workers)
            ready = threading.Barrier(workers + 1)

            def start() -> None:
                torch.get_num_threads()  # otherwise the first operation resets the number to that of the process
                torch.set_num_threads(share)
                ready.wait()

            pool = ThreadPoolExecutor(workers, thread_name_prefix="sbert-encode")
            before = torch.get_num_threads()
            for _ in range(workers):
                pool.submit(start)
            ready.wait()
            torch.set_num_threads(
                before
            )  # torch keeps a number for each thread; a new thread starts with the last one set
            _pools[workers] = pool
        return _pools[workers]
