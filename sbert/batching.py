"""Length-sorted batches that fill a token budget.

The one idea: sorted by length, neighbours need almost no padding; a budget of padded tokens instead of a number of texts
keeps the work of every batch alike, from many short texts to one long.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["cut_batches", "pad_batch"]

Ints = npt.NDArray[np.int64]


def cut_batches(lengths: Ints, token_budget: int) -> Iterator[Ints]:
    """Give the sequences of each batch, longest first, so that a too large budget shows at once.

    Args:
        lengths: tokens of each sequence, shape (S,).
        token_budget: most padded tokens (sequences times the longest) of a batch; one sequence is always allowed.
    """
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        longest = max(1, int(lengths[order[first]]))
        count = max(1, token_budget // longest)
        yield order[first : first + count]
        first += count


def pad_batch(
    values: npt.NDArray[np.int32], offsets: Ints, chosen: Ints, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Give ids and attention mask of a batch, shape (B, L) each; the mask is None when nothing is padded.

    Args:
        values: ids of all sequences.
        offsets: where each sequence begins and ends, shape (S + 1,).
        chosen: the batch's sequences, shape (B,).
        pad_id: the padding token's id.
    """
    begins, lengths = offsets[chosen], offsets[chosen + 1] - offsets[chosen]
    longest = int(lengths.max())
    places_L = np.arange(longest)
    mask_BL = places_L[None, :] < lengths[:, None]
    if mask_BL.all():
        return values[begins[:, None] + places_L[None, :]].astype(np.int64), None
    source_BL = np.minimum(begins[:, None] + places_L[None, :], len(values) - 1)
    return np.where(mask_BL, values[source_BL], pad_id).astype(np.int64), mask_BL.astype(np.int64)
