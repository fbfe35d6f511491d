"""Tokenize large blocks of texts in other processes, so that Python does not slow an accelerator down.

The Rust tokenizer returns ids as Python lists, and a loop over lists holds Python's global lock. Each process converts the
ids of its share of the texts into two arrays. Reading arrays costs the process that feeds the accelerator very little.
"""

import contextlib
import logging
import math
import os
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np

from sbert.encoder.tokenization.worker import TokenIds, token_ids
from sbert.errors import SettingsError

__all__ = ["PROCESSES_VARIABLE", "TokenizerPool", "num_tokenizer_processes"]

log = logging.getLogger(__name__)

PROCESSES_VARIABLE = "SBERT_TOKENIZER_PROCESSES"
"""Environment variable: number of processes that tokenize. With 0, the tokenizer's threads in this process do."""
MAX_PROCESSES = 16
FEWEST_TEXTS = 4_096
"""Smaller blocks are tokenized in this process, because starting the others takes a second."""

Worker = subprocess.Popen[bytes]


def num_tokenizer_processes(device_type: str, num_threads: int) -> int:
    """Return the number of processes that tokenize for a device.

    For an accelerator it is one process for each thread, at most 16. For a CPU it is none: all cores compute, and the
    tokenizer's threads share them.

    Args:
        device_type: device on which the encoder computes: ``cpu``, ``cuda``, …
        num_threads: threads that this process may use.

    Raises:
        SettingsError: when the environment variable is not a number.
    """
    wanted = os.environ.get(PROCESSES_VARIABLE, "")
    if wanted:
        if not wanted.isdecimal():
            raise SettingsError(f"{PROCESSES_VARIABLE} is {wanted!r}, expected a number of processes, 0 for none")
        return int(wanted)
    return 0 if device_type == "cpu" or num_threads == 1 else min(num_threads, MAX_PROCESSES)


class TokenizerPool:
    """Tokenize with other processes; in this process for small blocks, with no processes, or after one of them died.

    Threads may share a pool. It tokenizes one block at a time.
    """

    def __init__(self, tokenizer: Any, num_processes: int) -> None:
        """Create a pool for a tokenizer that neither truncates nor pads. Processes start with the first large block."""
        self.tokenizer = tokenizer
        """The tokenizer, for use in this process."""
        self._num = num_processes
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._process_id = os.getpid()
        weakref.finalize(self, _end, self._workers, self._process_id)

    def token_ids(self, texts: list[str]) -> TokenIds:
        """Return the ids of N texts, in order."""
        # A forked process must not talk to the workers of its parent.
        if self._num and len(texts) >= FEWEST_TEXTS and os.getpid() == self._process_id:
            with self._lock:
                if self._num:
                    try:
                        return self._ask(texts)
                    except (OSError, EOFError, pickle.UnpicklingError) as error:
                        log.warning(
                            "a tokenizer process ended (%s): this process tokenizes from now on",
                            error or type(error).__name__,
                        )
                        self._num = 0
                        _end(self._workers, self._process_id)
                    except BaseException:
                        # The answers to this block would otherwise be read as those to the next block.
                        _end(self._workers, self._process_id)
                        raise
        return token_ids(self.tokenizer, texts)

    def _ask(self, texts: list[str]) -> TokenIds:
        """Send each worker its share of the texts and collect the answers."""
        while len(self._workers) < self._num:
            self._workers.append(self._start())
        size = math.ceil(len(texts) / self._num)
        shares = [texts[first : first + size] for first in range(0, len(texts), size)]
        busy = self._workers[: len(shares)]
        for worker, share in zip(busy, shares, strict=True):
            _send(worker, share)
        answers = []
        for worker in busy:
            assert worker.stdout is not None
            answers.append(pickle.load(worker.stdout))  # noqa: S301  (from a process that this one started)
        values, lengths = zip(*answers, strict=True)
        return np.concatenate(values), np.concatenate(lengths)

    def _start(self) -> Worker:
        worker = subprocess.Popen(
            [sys.executable, "-m", "sbert.encoder.tokenization.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        _send(worker, self.tokenizer.to_str())
        return worker


def _send(worker: Worker, message: object) -> None:
    assert worker.stdin is not None
    pickle.dump(message, worker.stdin, protocol=pickle.HIGHEST_PROTOCOL)
    worker.stdin.flush()


def _end(workers: list[Worker], process_id: int) -> None:
    """Kill the workers and wait for their end. A process that did not start them does nothing."""
    if os.getpid() != process_id:
        return
    for worker in workers:
        worker.kill()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # texts that were never sent
                pipe.close()
        worker.wait()
    workers.clear()
