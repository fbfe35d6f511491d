"""Run the BERT family on an accelerator without padding, through torch's attention over sequences of different lengths.

Linear layers do not depend on where a sequence ends. Variable-length attention (`torch.nn.attention.varlen`, a flash
attention) takes the tokens end to end too, with the place where each sequence begins. So no token is padded, and no mask is
made.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.packed import Attention, PackedRunner
from sbert.encoder.engine.packing import PackedBatch, lay_end_to_end
from sbert.encoder.engine.transfer import to_device
from sbert.encoder.engine.weights import EncoderWeights
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["VarlenRunner", "why_varlen_cannot"]

MODULE = "torch.nn.attention.varlen"
HEAD_STEP, MAX_HEAD = 8, 256
"""Flash attention computes heads of a multiple of 8 values, up to 256 (Dao 2023, FlashAttention-2)."""


def find_varlen_attention() -> Callable[..., Any] | None:
    """Return torch's variable-length attention, or None when this version of torch has none."""
    try:
        return getattr(importlib.import_module(MODULE), "varlen_attn", None)
    except ImportError:
        return None


def why_varlen_cannot(weights: EncoderWeights) -> str | None:
    """Return why variable-length attention cannot compute an encoder; None when it can."""
    head = weights.words.shape[1] // weights.num_heads
    dtype = str(weights.words.dtype).removeprefix("torch.")
    reasons = {
        f"it computes on {weights.words.device.type}": weights.words.device.type != "cuda",
        f"it computes in {dtype}": dtype == ComputeDtype.FLOAT32.value,
        "it has relative positions": weights.relative_bias is not None,
        f"its heads have {head} values": head % HEAD_STEP != 0 or head > MAX_HEAD,
        f"this torch has no {MODULE}": find_varlen_attention() is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class VarlenRunner(PackedRunner):
    """Runs an encoder of the BERT family on sequences that lie end to end."""

    def cut(
        self, tokens: TokenizedTexts, sequences: npt.NDArray[np.int64], token_budget: int, num_at_once: int = 1
    ) -> Iterator[PackedBatch]:
        """Yield the batches of the given sequences, longest first."""
        begins, lengths = tokens.offsets[sequences], tokens.lengths[sequences]
        yield from lay_end_to_end(begins, lengths, sequences, token_budget, num_at_once)

    def _attention(self, owner_T: Tensor, batch: PackedBatch) -> Attention:  # noqa: ARG002  (sequences lie end to end)
        attend = find_varlen_attention()
        assert attend is not None
        lengths_B = np.bincount(batch.owner, minlength=len(batch.sequences))
        begins_B = to_device(np.concatenate([[0], np.cumsum(lengths_B)]), self._device).int()
        longest = int(lengths_B.max(initial=0))
        num_heads = self._weights.num_heads

        def attention(qkv_TG: Tensor) -> Tensor:
            query_TND, key_TND, value_TND = qkv_TG.view(len(qkv_TG), 3, num_heads, -1).unbind(1)
            attended_TND: Tensor = attend(query_TND, key_TND, value_TND, begins_B, begins_B, longest, longest)
            return attended_TND.reshape(len(qkv_TG), -1)

        return attention
