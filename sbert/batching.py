"""Length-sorted batches that fill a token budget.

The one idea: sorted by length, neighbours need almost no padding; a budget of padded tokens instead of a number
of texts keeps the work of every batch alike, from many short texts to one long.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["cut_batches", "pad_batch"]

Ints = npt.NDArray[np.int64]


def cut_batches(lengths_S: Ints, token_budget: int) -> Iterator[Ints]:
    """Give the sequences of each batch, longest first, so that a too large budget shows at once.

    A batch ends where the length changes once it is half full: most batches then need no padding and no mask.

    Args:
        lengths_S: tokens of each sequence, shape (S,).
        token_budget: most padded tokens (sequences times the longest) of a batch; one sequence is always allowed.
    """
    order_S = np.argsort(-lengths_S, kind="stable")
    sorted_S = lengths_S[order_S]
    # Where runs of equal length end; the last run ends with the sequences.
    run_ends = np.append(np.flatnonzero(np.diff(sorted_S)) + 1, len(sorted_S))
    first = 0
    while first < len(order_S):
        fitting = max(1, token_budget // max(1, int(sorted_S[first])))
        run_end = int(run_ends[np.searchsorted(run_ends, first, side="right")])
        size = run_end - first if fitting / 2 <= run_end - first <= fitting else fitting
        yield order_S[first : first + size]
        first += size


def pad_batch(
    values: npt.NDArray[np.int32], offsets: Ints, chosen_B: Ints, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Give ids and attention mask of a batch, shape (B, L) each; the mask is None when nothing is padded.

    L is the longest length, at least 1: a sequence of no tokens becomes a row of padding.

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
