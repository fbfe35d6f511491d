"""Pooling: one vector for each text from the vectors of its tokens.

Legend of shapes: B texts in a batch, L tokens, H hidden size, T tokens of a batch. All pooling is done in float32.
"""

from enum import StrEnum

import torch
from torch import Tensor, nn

from sbert.errors import ModelError

__all__ = ["Pooling", "PoolingMode"]


class PoolingMode(StrEnum):
    """Ways of pooling. The values are sentence-transformers' names, except for attention, which it does not have."""

    CLS = "cls"
    """The first token's vector (BERT; Devlin et al. 2019)."""
    LAST = "lasttoken"
    """The last token's vector."""
    MAX = "max"
    """The largest value of each dimension over the tokens (Reimers and Gurevych 2019, section 3)."""
    MEAN = "mean"
    """The mean over the tokens (Reimers and Gurevych 2019, section 3)."""
    MEAN_SQRT_LEN = "mean_sqrt_len_tokens"
    """The sum over the tokens, divided by the square root of their number."""
    WEIGHTED_MEAN = "weightedmean"
    """The mean weighted by position 1..L (SGPT; Muennighoff 2022, section 3.1)."""
    ATTENTION = "attention"
    """Learned weights: s = sum of w_i v_i, w = softmax over the tokens of q . v_i (Lin et al. 2017, one hop)."""


class Pooling(nn.Module):
    """Pool token vectors in one way, or in several whose results are concatenated."""

    def __init__(self, hidden_size: int, modes: tuple[PoolingMode, ...], *, include_prompt: bool = True) -> None:
        """Create the module for token vectors of `hidden_size` values.

        Args:
            hidden_size: values of a token vector.
            modes: ways of pooling, in the order of concatenation.
            include_prompt: whether the prompt's tokens are pooled.

        Raises:
            ModelError: when no mode is given.
        """
        super().__init__()
        if not modes:
            raise ModelError(f"pooling needs at least one of {', '.join(PoolingMode)}")
        self.hidden_size = hidden_size
        self.modes = modes
        self.include_prompt = include_prompt
        self.query = nn.Parameter(torch.zeros(hidden_size)) if PoolingMode.ATTENTION in modes else None

    @property
    def dim(self) -> int:
        """Values in a pooled vector."""
        return self.hidden_size * len(self.modes)

    def without_prompt(self, mask_BL: Tensor, num_prompt_tokens: int | Tensor) -> Tensor:
        """Return the mask of the tokens to pool: 0 for tokens of the prompt, unless the prompt is pooled too.

        Args:
            mask_BL: 1 for tokens, 0 for padding.
            num_prompt_tokens: tokens at the beginning that belong to the prompt: one number for all texts, or shape (B,).
        """
        if self.include_prompt:
            return mask_BL
        num_prompt_B1 = torch.as_tensor(num_prompt_tokens, device=mask_BL.device).reshape(-1, 1)
        return mask_BL * (torch.arange(mask_BL.shape[1], device=mask_BL.device) >= num_prompt_B1)

    def forward(self, hidden_BLH: Tensor, mask_BL: Tensor) -> Tensor:
        """Return pooled vectors of shape (B, H x number of modes). `mask_BL` is 1 for the tokens to pool."""
        num, length = mask_BL.shape
        owner_BL = torch.arange(num, device=mask_BL.device)[:, None].expand(num, length)
        positions_BL = torch.arange(length, device=mask_BL.device).expand(num, length)
        return self.pool_tokens(
            hidden_BLH.reshape(num * length, -1),
            owner_BL.masked_fill(mask_BL == 0, num).reshape(-1),
            positions_BL.reshape(-1),
            num,
        )

    def pool_tokens(self, hidden_TH: Tensor, owner_T: Tensor, positions_T: Tensor, num: int) -> Tensor:
        """Pool T tokens of B texts. Return vectors of shape (B, H x number of modes).

        Args:
            hidden_TH: token vectors; those of one text are in order.
            owner_T: the text of each token; B for tokens that are not pooled.
            positions_T: place of each token in its text, from 0.
            num: the number of texts, B.
        """
        hidden_TH = hidden_TH.float()
        pooled = [self._pool(mode, hidden_TH, owner_T, positions_T, num) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)

    def _pool(self, mode: PoolingMode, hidden_TH: Tensor, owner_T: Tensor, positions_T: Tensor, num: int) -> Tensor:
        if mode in {PoolingMode.CLS, PoolingMode.LAST}:
            places_T = torch.arange(len(owner_T), device=owner_T.device)
            end = "amin" if mode is PoolingMode.CLS else "amax"
            chosen_B = places_T.new_zeros(num + 1).scatter_reduce(0, owner_T, places_T, end, include_self=False)
            return hidden_TH[chosen_B[:num]]
        if mode is PoolingMode.MAX:
            lowest_BH = hidden_TH.new_full((num + 1, hidden_TH.shape[1]), -1e9)
            owner_TH = owner_T[:, None].expand_as(hidden_TH)
            return lowest_BH.scatter_reduce(0, owner_TH, hidden_TH, "amax")[:num]
        weights_T = hidden_TH.new_ones(len(owner_T))
        if mode is PoolingMode.WEIGHTED_MEAN:
            weights_T = positions_T.float() + 1
        elif mode is PoolingMode.ATTENTION:
            assert self.query is not None
            scores_T = hidden_TH @ self.query
            highest_B = scores_T.new_full((num + 1,), float("-inf")).scatter_reduce(0, owner_T, scores_T, "amax")
            weights_T = torch.exp(scores_T - highest_B.detach()[owner_T])
        summed_BH = self._summed(hidden_TH * weights_T[:, None], owner_T, num)
        total_B1 = self._summed(weights_T[:, None], owner_T, num).clamp(
            min=1e-9
        )  # a text without tokens would divide by 0
        return summed_BH / (total_B1.sqrt() if mode is PoolingMode.MEAN_SQRT_LEN else total_B1)

    @staticmethod
    def _summed(values_TH: Tensor, owner_T: Tensor, num: int) -> Tensor:
        """Add up the tokens of each text. Tokens that are not pooled are in bin B, which is dropped."""
        return values_TH.new_zeros(num + 1, values_TH.shape[1]).index_add(0, owner_T, values_TH)[:num]
