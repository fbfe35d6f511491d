"""Run any Hugging Face encoder as it is, on batches of texts of similar length, padded to the longest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sbert.encoder.engine.batching import cut_batches, pad_batch
from sbert.encoder.engine.sharing import SMALLEST_TOKENS, Sharing
from sbert.encoder.engine.transfer import to_device
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["PaddedBatch", "PaddedRunner"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PaddedBatch:
    """Sequences that are computed together."""

    sequences: Ints
    """The numbers of the sequences, shape (B,)."""


class PaddedRunner:
    """Runs an encoder's own forward pass."""

    sharing = Sharing(most_at_once=1, batch_cost=100)
    """transformers does not promise that its forward pass is safe in several threads."""

    def __init__(
        self, forward: Callable[[Tensor, Tensor | None, int], Tensor], *, pad_id: int, device: torch.device
    ) -> None:
        """Create a runner for a forward pass: ids (B, L), mask (B, L) or None, prompt tokens → vectors (B, dim)."""
        self._forward, self._pad_id, self._device = forward, pad_id, device

    def cut(
        self, tokens: TokenizedTexts, sequences: Ints, token_budget: int, num_at_once: int = 1
    ) -> Iterator[PaddedBatch]:
        """Yield the batches of the given sequences, longest first."""
        lengths = tokens.lengths[sequences]
        if num_at_once > 1:
            token_budget = min(token_budget, max(SMALLEST_TOKENS, int(lengths.sum()) // num_at_once))
        for batch in cut_batches(lengths, token_budget):
            yield PaddedBatch(sequences[batch])

    def run(self, tokens: TokenizedTexts, batch: PaddedBatch) -> Tensor:
        """Return the vectors of a batch, shape (B, dim), float32, on the device."""
        ids_BL, mask_BL = pad_batch(tokens.input_ids, tokens.offsets, batch.sequences, self._pad_id)
        vectors_BD = self._forward(
            to_device(ids_BL, self._device),
            None if mask_BL is None else to_device(mask_BL, self._device),
            tokens.num_prompt_tokens,
        )
        return vectors_BD.float()
