"""Length-sorted batches that fill a token budget.

Sequences of similar length need almost no padding. A budget of padded tokens, instead of a number of texts, bounds the work
of every batch, whether it holds many short texts or one long text.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["cut_batches", "pad_batch"]

Ints = npt.NDArray[np.int64]

MAX_PADDING = 0.02
"""Largest share of padding among the padded tokens."""
SMALLEST_SHARE = 32
"""A batch is large enough from this fraction of the budget on (1/32): it is not filled with padding."""
MIN_SMALLEST_TOKENS = 256


def cut_batches(lengths_S: Ints, token_budget: int, *, smallest_tokens: int | None = None) -> Iterator[Ints]:
    """Yield the sequences of each batch, longest first, so that a budget that is too large fails at once.

    A batch is the largest within the budget for which padding is at most 2 % of the padded tokens: its own and those of all
    batches of shorter sequences, taken together. A batch of up to `smallest_tokens` may have any padding; the batches of
    longer sequences then make up for it as far as they can. So padding is below 2 % in all, except for a few hundred
    sequences of many lengths.

    Args:
        lengths_S: tokens of each sequence, shape (S,).
        token_budget: largest number of padded tokens in a batch (sequences times the longest); one sequence is always
            allowed.
        smallest_tokens: padded tokens that a batch may have with any padding; by default a 32nd of the budget, and at least
            256, because a smaller batch computes no faster.
    """
    if smallest_tokens is None:
        smallest_tokens = max(MIN_SMALLEST_TOKENS, token_budget // SMALLEST_SHARE)
    order_S = np.argsort(lengths_S, kind="stable")
    sizes_S = np.maximum(lengths_S[order_S], 1)
    ends_S = np.cumsum(sizes_S)
    # Begin with the shortest: short sequences cannot be batched without padding, and long ones can make up for it.
    cuts, num_padded = [0], 0
    while cuts[-1] < len(order_S):
        first = cuts[-1]
        longest_C = sizes_S[first : first + max(1, token_budget // int(sizes_S[first]))]
        padded_C = longest_C * np.arange(1, len(longest_C) + 1)
        is_tight_C = ends_S[first : first + len(longest_C)] >= (1 - MAX_PADDING) * (num_padded + padded_C)
        allowed = np.flatnonzero((padded_C <= token_budget) & (is_tight_C | (padded_C <= smallest_tokens)))
        size = int(allowed[-1]) + 1 if len(allowed) else 1
        num_padded += int(padded_C[size - 1])
        cuts.append(first + size)
    for first, stop in reversed(list(pairwise(cuts))):
        yield order_S[first:stop]


def pad_batch(
    values: npt.NDArray[np.int32], offsets: Ints, chosen_B: Ints, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Return ids and attention mask of a batch, shape (B, L) each. The mask is None when nothing is padded.

    L is the longest length, and at least 1: a sequence without tokens becomes a row of padding.

    Args:
        values: ids of all sequences, one sequence after the other.
        offsets: where each sequence begins and ends, shape (S + 1,).
        chosen_B: the batch's sequences, shape (B,).
        pad_id: the padding token's id.
    """
    begins_B, lengths_B = offsets[chosen_B], offsets[chosen_B + 1] - offsets[chosen_B]
    places_L = np.arange(max(1, int(lengths_B.max())))
    source_BL = begins_B[:, None] + places_L
    mask_BL = places_L < lengths_B[:, None]
    if mask_BL.all():
        return values[source_BL].astype(np.int64), None
    ids_BL = np.full(mask_BL.shape, pad_id, dtype=np.int64)
    ids_BL[mask_BL] = values[source_BL[mask_BL]]
    return ids_BL, mask_BL.astype(np.int64)
