"""From token vectors to one vector a text.

Legend of shapes: B texts in a batch, L tokens, H hidden size. All pooling is done in float32.
"""

from enum import StrEnum

import torch
from torch import Tensor, nn

from sbert.errors import ModelError

__all__ = ["Pooling", "PoolingMode"]


class PoolingMode(StrEnum):
    """Ways of pooling; the values are sentence-transformers' names where it has one."""

    CLS = "cls"
    """The first token's vector (BERT; Devlin et al. 2019)."""
    LAST = "lasttoken"
    """The last token's vector."""
    MAX = "max"
    """Largest value of each dimension over the tokens (Reimers and Gurevych 2019, section 3)."""
    MEAN = "mean"
    """Mean over the tokens (Reimers and Gurevych 2019, section 3)."""
    MEAN_SQRT_LEN = "mean_sqrt_len_tokens"
    """Sum over the tokens, divided by the square root of their number."""
    WEIGHTED_MEAN = "weightedmean"
    """Mean weighted by position 1..L (SGPT; Muennighoff 2022, section 3.1)."""
    ATTENTION = "attention"
    """Learned weights: s = sum of w_i v_i, w = softmax over the tokens of q . v_i (Lin et al. 2017, one hop)."""


class Pooling(nn.Module):
    """Pool token vectors in one or several ways; several are concatenated."""

    def __init__(self, hidden_size: int, modes: tuple[PoolingMode, ...], *, include_prompt: bool = True) -> None:
        """Prepare; `include_prompt` says whether the prompt's tokens take part.

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

    def forward(self, hidden_BLH: Tensor, mask_BL: Tensor) -> Tensor:
        """Give pooled vectors of shape (B, H x number of modes); `mask_BL` is 1 for tokens that take part."""
        hidden_BLH = hidden_BLH.float()
        pooled = [self._pool(mode, hidden_BLH, mask_BL) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)

    def _pool(self, mode: PoolingMode, hidden_BLH: Tensor, mask_BL: Tensor) -> Tensor:
        weights_BL1 = mask_BL.unsqueeze(-1).float()
        if mode is PoolingMode.CLS:
            first_B = mask_BL.to(torch.int32).argmax(dim=1)
            return hidden_BLH[torch.arange(len(hidden_BLH), device=hidden_BLH.device), first_B]
        if mode is PoolingMode.LAST:
            length = mask_BL.shape[1]
            last_B = length - 1 - mask_BL.to(torch.int32).flip(1).argmax(dim=1)
            return hidden_BLH[torch.arange(len(hidden_BLH), device=hidden_BLH.device), last_B]
        if mode is PoolingMode.MAX:
            return hidden_BLH.masked_fill(weights_BL1 == 0, -1e9).amax(dim=1)
        if mode is PoolingMode.ATTENTION:
            assert self.query is not None
            scores_BL = (hidden_BLH @ self.query).masked_fill(mask_BL == 0, float("-inf"))
            return (torch.softmax(scores_BL, dim=1).nan_to_num().unsqueeze(-1) * hidden_BLH).sum(dim=1)
        if mode is PoolingMode.WEIGHTED_MEAN:
            places_L = torch.arange(1, mask_BL.shape[1] + 1, device=mask_BL.device, dtype=torch.float32)
            weights_BL1 = weights_BL1 * places_L[None, :, None]
        total_B1 = weights_BL1.sum(dim=1).clamp(min=1e-9)  # a text of padding alone would divide by zero
        summed_BH = (hidden_BLH * weights_BL1).sum(dim=1)
        return summed_BH / (total_B1.sqrt() if mode is PoolingMode.MEAN_SQRT_LEN else total_B1)
