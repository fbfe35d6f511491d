"""Compute batches side by side on a CPU: one batch a core instead of all cores on one batch.

The one idea: a batch that one core computes alone stays in that core's cache, and no core waits for another between two
operations. Memory that a batch gives back is kept for the next one: asking the system for it again costs a tenth
of the time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from sbert.engine.choice import Runner
from sbert.memory import keep_freed_memory
from sbert.tokenizing import TokenizedTexts

__all__ = ["compute_batches", "num_workers"]

MAX_WORKERS = 16
"""With more, Python itself would be what they wait for; each then has several cores."""
BATCHES_IN_FLIGHT = 32
"""Batches that an accelerator is given before their vectors are copied back: it goes on computing meanwhile."""

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def num_workers(device: torch.device) -> int:
    """Give how many batches are computed at once: one a core on a CPU, one on an accelerator."""
    return min(torch.get_num_threads(), MAX_WORKERS) if device.type == "cpu" else 1


def compute_batches(
    runner: Runner,
    tokens: TokenizedTexts,
    batches: Iterable[Any],
    workers: int,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[Any, Tensor | RuntimeError]]:
    """Compute batches; give each with its vectors, or with the error that it ended in, in order.

    With one worker a batch is taken, and so laid out, while an accelerator still computes those before it.

    Raises:
        InterruptedError: when `should_stop` said so before a batch.
    """
    if workers == 1:
        waiting = iter(batches)
        while some := [
            (each, _compute(runner, tokens, each, should_stop)) for each in islice(waiting, BATCHES_IN_FLIGHT)
        ]:
            yield from some
        return
    listed = list(batches)
    if len(listed) == 1:
        yield listed[0], _compute(runner, tokens, listed[0], should_stop)
        return
    pool = _pool(workers)
    futures = [pool.submit(_compute, runner, tokens, batch, should_stop) for batch in listed]
    try:
        for batch, future in zip(listed, futures, strict=True):
            yield batch, future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _compute(
    runner: Runner, tokens: TokenizedTexts, batch: Any, should_stop: Callable[[], bool] | None
) -> Tensor | RuntimeError:
    if should_stop is not None and should_stop():
        raise InterruptedError("encoding was stopped on request")
    try:
        with torch.inference_mode():
            return runner.run(tokens, batch)
    except RuntimeError as error:
        return error


def _pool(workers: int) -> ThreadPoolExecutor:
    """Give this process's threads; each computes with its share of the cores."""
    with _lock:
        if workers not in _pools:
            keep_freed_memory()
            share = max(1, torch.get_num_threads() // workers)
            ready = threading.Barrier(workers + 1)

            def start() -> None:
                torch.get_num_threads()  # else the thread takes the process' number again at its first operation
                torch.set_num_threads(share)
                ready.wait()

            pool = ThreadPoolExecutor(workers, thread_name_prefix="sbert-encode")
            before = torch.get_num_threads()
            for _ in range(workers):
                pool.submit(start)
            ready.wait()
            torch.set_num_threads(before)  # the number is kept a thread, but new threads start with the last one set
            _pools[workers] = pool
        return _pools[workers]
