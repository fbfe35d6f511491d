"""Run the BERT family on packed tokens: no padding, fused operations, attention row by row.

Legend of shapes: T tokens of a batch, H hidden size, R rows of width W, N heads, D values a head, B sequences.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from sbert.encoder.engine.integer_linear import make_linears
from sbert.encoder.engine.linear import Linear
from sbert.encoder.engine.packing import PackedBatch, pack_rows
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.transfer import to_device
from sbert.encoder.engine.weights import EncoderWeights, LayerWeights, RoundedLayer
from sbert.encoder.pooling import Pooling
from sbert.encoder.tokenization.token_ids import TokenizedTexts

__all__ = ["Attention", "PackedRunner"]

Ints = npt.NDArray[np.int64]
Attention = Callable[[Tensor], Tensor]
"""Maps queries, keys and values of the tokens, shape (T, 3 H), to attended values, shape (T, H)."""


class _Layer:
    """One transformer layer (Vaswani et al. 2017, section 3.1; layer norm after the residual)."""

    def __init__(self, weights: LayerWeights, rounded: RoundedLayer | None, norm_eps: float, activation: str) -> None:
        self._qkv, self._out, self._up, self._down = make_linears(weights, rounded)
        self._attention_norm, self._output_norm = weights.attention_norm, weights.output_norm
        self._eps, self._activation = norm_eps, activation

    def __call__(self, x_TH: Tensor, attention: Attention) -> Tensor:
        attended_TH = attention(self._qkv(x_TH))
        x_TH = self._normalized(self._out, attended_TH, x_TH, self._attention_norm)
        return self._normalized(self._down, self._up.activated(x_TH, self._activation), x_TH, self._output_norm)

    def _normalized(self, linear: Linear, input_TI: Tensor, residual_TH: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(linear.added(input_TI, residual_TH), residual_TH.shape[1:], *norm, self._eps)


class PackedRunner:
    """Runs an encoder of the BERT family on packed tokens."""

    sharing = Sharing(most_at_once=16, batch_cost=40)
    """With more than 16 threads they would wait for Python's global lock. On more cores each thread has several."""

    def __init__(
        self, weights: EncoderWeights, pooling: Pooling, layers: nn.ModuleList, *, pad_id: int, device: torch.device
    ) -> None:
        """Copy the weights into the layout of the operations. Later changes of the model have no effect here."""
        self._weights = weights
        rounded = weights.rounded or [None] * len(weights.layers)
        self._layers = [
            _Layer(*both, weights.norm_eps, weights.activation) for both in zip(weights.layers, rounded, strict=True)
        ]
        self._pooling, self._modules = pooling, layers
        self._pad_id, self._device = pad_id, device

    def cut(
        self, tokens: TokenizedTexts, sequences: Ints, token_budget: int, num_at_once: int = 1
    ) -> Iterator[PackedBatch]:
        """Yield the batches of the given sequences, widest rows first."""
        begins, lengths = tokens.offsets[sequences], tokens.lengths[sequences]
        # On a CPU oneDNN compiles code for each number of tokens: 2.3 MiB for MiniLM. So batches have few sizes.
        few_sizes = self._device.type == "cpu"
        rows = pack_rows(lengths, token_budget)
        for batch in rows.batches(begins, lengths, token_budget, num_at_once=num_at_once, few_sizes=few_sizes):
            yield replace(batch, sequences=sequences[batch.sequences])

    def run(self, tokens: TokenizedTexts, batch: PackedBatch) -> Tensor:
        """Return the vectors of a batch, shape (B, dim), float32, on the device."""
        weights = self._weights
        ids_T = np.where(batch.tokens < 0, self._pad_id, tokens.input_ids[batch.tokens])
        positions_T, owner_T = to_device(batch.positions, self._device), to_device(batch.owner, self._device)
        x_TH = functional.embedding(to_device(ids_T, self._device), weights.words)
        x_TH += functional.embedding(positions_T, weights.positions)
        x_TH = functional.layer_norm(x_TH, x_TH.shape[1:], *weights.embedding_norm, weights.norm_eps)
        attention = self._attention(owner_T, batch)
        for layer in self._layers:
            x_TH = layer(x_TH, attention)
        num = len(batch.sequences)
        if tokens.num_prompt_tokens and not self._pooling.include_prompt:
            owner_T = owner_T.masked_fill(positions_T < tokens.num_prompt_tokens, num)
        vectors_BD: Tensor = self._pooling.pool_tokens(x_TH, owner_T, positions_T, num)
        for module in self._modules:
            vectors_BD = module(vectors_BD)
        return vectors_BD

    def _attention(self, owner_T: Tensor, batch: PackedBatch) -> Attention:
        """Return the attention within the rows of a batch."""
        groups, num_heads = self._masked_groups(owner_T, batch), self._weights.num_heads

        def attention(qkv_TG: Tensor) -> Tensor:
            parts: list[Tensor] = []
            hidden = qkv_TG.shape[1] // 3
            first = 0
            for rows, width, mask in groups:
                part = qkv_TG[first : first + rows * width].view(rows, width, 3, num_heads, hidden // num_heads)
                query_RNWD, key_RNWD, value_RNWD = part.permute(2, 0, 3, 1, 4).unbind(0)
                attended = functional.scaled_dot_product_attention(query_RNWD, key_RNWD, value_RNWD, attn_mask=mask)
                parts.append(attended.transpose(1, 2).reshape(rows * width, hidden))
                first += rows * width
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return attention

    def _masked_groups(self, owner_T: Tensor, batch: PackedBatch) -> list[tuple[int, int, Tensor]]:
        """Return rows, width and the values to add to attention scores: 0 within a sequence, -inf between two."""
        groups: list[tuple[int, int, Tensor]] = []
        first = 0
        for rows, width in batch.groups:
            owner_RW = owner_T[first : first + rows * width].view(rows, width)
            apart_R1WW = (owner_RW[:, :, None] != owner_RW[:, None, :])[:, None]
            dtype = self._weights.words.dtype
            mask = torch.zeros(apart_R1WW.shape, dtype=dtype, device=self._device).masked_fill_(apart_R1WW, -torch.inf)
            if self._weights.relative_bias is not None:
                mask = mask + self._weights.relative_bias(width).to(dtype)
            groups.append((rows, width, mask))
            first += rows * width
        return groups
