"""Token ids of texts, made by processes where one thread of Python would be what an accelerator waits for.

The one idea: the Rust tokenizer hands ids out as Python lists, and walking them needs Python's lock. A process of its own
walks its share of the texts and sends back two arrays, which cost the process that feeds the accelerator next to nothing.
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
"""Environment variable: how many processes tokenize; 0 for none, then threads of the tokenizer do."""
MAX_PROCESSES = 16
FEWEST_TEXTS = 4_096
"""Fewer texts are tokenized where they are: starting processes takes a second."""

Worker = subprocess.Popen[bytes]


def num_tokenizer_processes(device_type: str, num_threads: int) -> int:
    """Give how many processes tokenize for a device: one a thread (16 at most) for an accelerator, none for a CPU.

    A CPU is busy with computing; there the tokenizer's threads take what time is left.

    Args:
        device_type: where the encoder computes: ``cpu``, ``cuda`` …
        num_threads: threads that this process may use.

    Raises:
        SettingsError: when the environment says something that is no number.
    """
    wanted = os.environ.get(PROCESSES_VARIABLE, "")
    if wanted:
        if not wanted.isdecimal():
            raise SettingsError(f"{PROCESSES_VARIABLE} is {wanted!r}, expected a number of processes, 0 for none")
        return int(wanted)
    return 0 if device_type == "cpu" or num_threads == 1 else min(num_threads, MAX_PROCESSES)


class TokenizerPool:
    """Tokenizes with so many processes; without them when there are none, few texts, or one of them died.

    Threads may share one: their blocks take turns.
    """

    def __init__(self, tokenizer: Any, num_processes: int) -> None:
        """Take a tokenizer without truncation and padding; processes start with the first large block."""
        self.tokenizer = tokenizer
        """The tokenizer of this process."""
        self._num = num_processes
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._process_id = os.getpid()
        weakref.finalize(self, _end, self._workers, self._process_id)

    def token_ids(self, texts: list[str]) -> TokenIds:
        """Give the ids of N texts, in order."""
        # A process that was forked off must not talk to the workers of the one it came from.
        if self._num and len(texts) >= FEWEST_TEXTS and os.getpid() == self._process_id:
            with self._lock:
                if self._num:
                    try:
                        return self._ask(texts)
                    except (OSError, EOFError, pickle.UnpicklingError) as error:
                        log.warning(
                            "a process that tokenizes ended (%s): it goes on without", error or type(error).__name__
                        )
                        self._num = 0
                        _end(self._workers, self._process_id)
                    except BaseException:
                        _end(
                            self._workers, self._process_id
                        )  # else their answers would be taken for those of the next block
                        raise
        return token_ids(self.tokenizer, texts)

    def _ask(self, texts: list[str]) -> TokenIds:
        """Hand each worker its share, and collect the answers."""
        while len(self._workers) < self._num:
            self._workers.append(self._start())
        size = math.ceil(len(texts) / self._num)
        shares = [texts[first : first + size] for first in range(0, len(texts), size)]
        asked = self._workers[: len(shares)]
        for worker, share in zip(asked, shares, strict=True):
            _send(worker, share)
        answers = []
        for worker in asked:
            assert worker.stdout is not None
            answers.append(pickle.load(worker.stdout))  # noqa: S301  (from a process of our own)
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
    """End workers, whatever they are at; only for the process that started them."""
    if os.getpid() != process_id:
        return
    for worker in workers:
        worker.kill()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was never sent
                pipe.close()
        worker.wait()
    workers.clear()
