"""Compute all sequences of a block within the memory there is.

The one idea: how many tokens fit is known only when they do not. What was too much is halved, for good, and only what did
not fit is cut anew.
"""

import logging
from collections.abc import Callable
from contextlib import closing

import numpy as np
import numpy.typing as npt
import torch

from sbert.encoder.engine.runner_selection import Runner
from sbert.encoder.engine.workers import compute_batches, num_workers
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["TokenBudget", "usual_tokens"]

log = logging.getLogger(__name__)

CPU_TOKENS = 2_048
"""Tokens of a batch on a CPU, where each core computes one: activations then stay in its cache."""
SMALLEST_TOKENS = 256
"""Tokens of a batch when there are too few for all cores."""
GPU_TOKENS = 131_072
"""Tokens of a batch on an accelerator: enough to fill it, and to hide what starting a batch costs."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def usual_tokens(device: torch.device) -> int:
    """Give how many tokens a batch has on a device when there are enough texts, and memory."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


class TokenBudget:
    """How many tokens a batch may have on a device; not thread-safe, callers hold a lock."""

    def __init__(self) -> None:
        """Begin with what is usual for the device."""
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
        """Give the vectors of all sequences, shape (S, dim).

        Raises:
            InterruptedError: when `should_stop` said so between two batches.
            MemoryError: when a single sequence does not fit.
        """
        workers = num_workers(device) if runner.side_by_side else 1
        budget = token_budget or self._lowered or usual_tokens(device)
        vectors_SD = np.empty((len(tokens.lengths), dim), dtype=np.float32)
        computed_S = np.zeros(len(vectors_SD), dtype=np.bool_)
        while not computed_S.all():
            waiting = np.flatnonzero(~computed_S)
            if workers > 1:  # something for each
                budget = min(budget, max(SMALLEST_TOKENS, int(tokens.lengths[waiting].sum()) // workers))
            batches = runner.cut(tokens, waiting, budget)
            with closing(compute_batches(runner, tokens, batches, workers, should_stop)) as outcomes:
                failed = None
                for batch, outcome in outcomes:
                    if isinstance(outcome, RuntimeError):
                        failed = (batch.sequences, outcome)
                        break  # what was started meanwhile is computed again
                    vectors_SD[batch.sequences] = outcome.numpy()
                    computed_S[batch.sequences] = True
            if failed is not None:
                if not _is_out_of_memory(failed[1]):
                    raise failed[1]
                budget = self._lower(tokens, device, *failed)
        return vectors_SD

    def _lower(
        self, tokens: TokenizedTexts, device: torch.device, sequences: npt.NDArray[np.int64], error: RuntimeError
    ) -> int:
        """Halve what was too much; give the new budget.

        Raises:
            MemoryError: when it was a single sequence.
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


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in OUT_OF_MEMORY)
