"""The state of one process that builds splits of a run: encoder, vector cache, counters and a stop signal."""

import threading
from typing import TYPE_CHECKING

from sbert.refresh.build_spec import BuildSpec
from sbert.refresh.progress import WorkCounter
from sbert.runtime.memory import FreedMemory
from sbert.table.quantization_recall import FirstLook
from sbert.table.tombstones import Tombstones
from sbert.table.vector_cache import VectorCache

if TYPE_CHECKING:  # a run with nothing to encode does not import torch
    from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = ["WorkerState"]


class WorkerState:
    """Shared by all splits that a process builds for a run; threads may use it at the same time."""

    def __init__(self, spec: BuildSpec, encoder: "SentenceEncoder") -> None:
        """Start with an empty vector cache."""
        self.encoder = encoder
        self.vector_cache = VectorCache(
            spec.encoder.dim, spec.encoder.precision, run_file_bytes=spec.settings.run_file_bytes
        )
        """Vectors of the table and of this run; hold `encode_lock` to use it."""
        self.first_look = FirstLook(spec.encoder)
        self.tombstones = Tombstones.load(spec.table_uri)
        """Tombstones of erased rows, which the raw text may still hold."""
        self.encode_lock = threading.Lock()
        self.freed_memory = FreedMemory()
        self.stop = threading.Event()
        self.work = WorkCounter()

    def check_running(self) -> None:
        """Stop the work when it was asked to stop.

        Raises:
            InterruptedError: when `stop` is set.
        """
        if self.stop.is_set():
            raise InterruptedError("stopped on request; run again to go on")

    def close(self) -> None:
        """Remove temporary files."""
        self.vector_cache.close()
