"""Compute all sequences of a block within the memory of the device.

Only an error shows that a batch was too large. The budget is then halved for good, and the sequences without vectors are cut
into smaller batches.
"""

import logging
from collections.abc import Callable
from contextlib import closing

import numpy as np
import numpy.typing as npt
import torch

from sbert.encoder.engine.runner_selection import Runner
from sbert.encoder.engine.sharing import choose_num_at_once
from sbert.encoder.engine.workers import compute_batches, num_workers
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["TokenBudget", "is_out_of_memory", "usual_tokens"]

log = logging.getLogger(__name__)

CPU_TOKENS = 2_048
"""Tokens of a batch on a CPU. Each core computes one batch, and its activations stay in the core's cache."""
GPU_TOKENS = 131_072
"""Tokens of a batch on an accelerator: enough to use all its units, and to hide the time to start a batch."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def usual_tokens(device: torch.device) -> int:
    """Return the tokens of a batch on a device, if there are enough texts and enough memory."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


class TokenBudget:
    """The number of tokens that a batch may have on a device. Not thread-safe: callers hold a lock."""

    def __init__(self) -> None:
        """Begin with the usual budget of the device."""
        self._lowered: int | None = None

    def compute(
        self,
        runner: Runner,
        tokens: TokenizedTexts,
        *,
        dim: int,
        device: torch.device,
        token_budget: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of all sequences, shape (S, dim).

        Raises:
            InterruptedError: when `should_stop` returned True between two batches.
            MemoryError: when a single sequence does not fit.
        """
        workers = num_workers(device)
        budget = token_budget or self._lowered or usual_tokens(device)
        vectors_SD = np.empty((len(tokens.lengths), dim), dtype=np.float32)
        computed_S = np.zeros(len(vectors_SD), dtype=np.bool_)
        while not computed_S.all():
            waiting = np.flatnonzero(~computed_S)
            num_at_once = choose_num_at_once(tokens.lengths[waiting], budget, workers, runner.sharing)
            batches = runner.cut(tokens, waiting, budget, num_at_once)
            with closing(compute_batches(runner, tokens, batches, num_at_once, should_stop)) as outcomes:
                failed = None
                for batch, outcome in outcomes:
                    if isinstance(outcome, RuntimeError):
                        failed = (batch.sequences, outcome)
                        break  # batches that were started meanwhile are computed again
                    vectors_SD[batch.sequences] = outcome.numpy()
                    computed_S[batch.sequences] = True
            if failed is not None:
                if not is_out_of_memory(failed[1]):
                    raise failed[1]
                budget = self._lower(tokens, device, *failed)
        return vectors_SD

    def _lower(
        self, tokens: TokenizedTexts, device: torch.device, sequences: npt.NDArray[np.int64], error: RuntimeError
    ) -> int:
        """Set the budget to half the tokens of the batch that failed. Return the new budget.

        Raises:
            MemoryError: when the batch was a single sequence.
        """
        longest = int(tokens.lengths[sequences].max())
        if len(sequences) == 1:
            raise MemoryError(
                f"one sequence of {longest} tokens does not fit into the memory of {device}: lower max_seq_length or use "
                "a larger device"
            ) from error
        self._lowered = budget = max(1, int(tokens.lengths[sequences].sum()) // 2)
        log.warning("out of memory on %s: the token budget is now %d", device, budget)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return budget


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error says that a device or this machine has no memory left."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text for sign in OUT_OF_MEMORY)
