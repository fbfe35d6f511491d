"""Pack sequences into rows, so that almost nothing is padded.

The one idea: linear layers do not depend on where a sequence ends; only attention does. So the tokens of a batch are one
long array. Attention treats it as rows of equal width. A row holds several whole sequences, and a mask keeps them apart. The
lengths that share a row are chosen from the histogram of lengths, without a loop over sequences.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbert.encoder.engine.sharing import cut_for_cores
from sbert.encoder.tokenization.token_ids import gather_ranges

__all__ = ["WIDTH_STEP", "PackedBatch", "Rows", "lay_end_to_end", "pack_rows"]

Ints = npt.NDArray[np.int64]

SIZE_STEPS = ((512, 128), (256, 64))
"""For batches of few sizes: (a, b) rounds a batch of more than a tokens up to a multiple of b."""
WIDTH_STEP = 32
"""Row widths are multiples of this: attention over other widths costs twice as much for each token."""
GOOD_FILL = 0.97
"""A row with this share of tokens is accepted without a search for a better width."""
MAX_WIDER = 8
"""Number of `WIDTH_STEP` by which a row may be wider than its longest sequence."""
LINEAR_COST, ATTENTION_COST, ATTENTION_COST_OF_WIDTH = 3_600.0, 850.0, 5.8
"""Nanoseconds for each token and layer, measured for 384 hidden values on one core. They weigh width against padding."""


@dataclass(frozen=True)
class PackedBatch:
    """T tokens of B sequences in rows. Rows of one width follow each other."""

    sequences: Ints
    """The number of each sequence in the list that was packed, shape (B,)."""
    tokens: Ints
    """The index of each token in the ids of all sequences, -1 for padding, shape (T,)."""
    positions: Ints
    """The place of each token in its sequence, 0 for padding, shape (T,)."""
    owner: Ints
    """The sequence of each token, 0 to B - 1, and B for padding, shape (T,)."""
    groups: tuple[tuple[int, int], ...]
    """The number and width of rows, ((rows, width), …). In order they hold the T tokens."""


@dataclass(frozen=True)
class Rows:
    """Rows for S sequences, widest first. `batches` cuts them into batches."""

    widths: Ints
    """Tokens of each row, padding included, descending, shape (R,)."""
    sequences: Ints
    """The sequences in the order of the rows, shape (S,)."""
    row_of: Ints
    """The row of each of `sequences`, ascending, shape (S,)."""
    start_of: Ints
    """The place in its row where each of `sequences` begins, shape (S,)."""

    def batches(
        self,
        begins_S: Ints,
        lengths_S: Ints,
        token_budget: int,
        *,
        num_at_once: int = 1,
        few_sizes: bool = False,
    ) -> Iterator[PackedBatch]:
        """Cut the rows into batches of at most `token_budget` tokens, padding included. One row is always allowed.

        Args:
            begins_S: index in the ids at which each packed sequence begins, shape (S,).
            lengths_S: number of its tokens, shape (S,).
            token_budget: largest number of tokens in a batch, before it is filled up.
            num_at_once: batches that are computed at once; with more than 1 all threads end together.
            few_sizes: fill each batch up with rows of padding: to a multiple of 32 tokens up to 256, of 64 up to 512, of 128
                above. A single text stays small, and up to 2,048 tokens there are 24 sizes.
        """
        if few_sizes:
            token_budget = max(1, token_budget - token_budget % _size_step(token_budget))
        ends = np.cumsum(self.widths)
        for rows in cut_for_cores(ends, token_budget, num_at_once):
            yield self._batch(rows.start, rows.stop, ends, begins_S, lengths_S, few_sizes)

    def _batch(
        self, first: int, stop: int, ends: Ints, begins_S: Ints, lengths_S: Ints, few_sizes: bool
    ) -> PackedBatch:
        begin = int(ends[first] - self.widths[first])
        low, high = np.searchsorted(self.row_of, [first, stop])
        chosen_B = self.sequences[low:high]
        lengths_B = lengths_S[chosen_B]
        rows_B = self.row_of[low:high]
        target_B = ends[rows_B] - self.widths[rows_B] + self.start_of[low:high] - begin
        num_filled = int(ends[stop - 1]) - begin
        num_extra = -num_filled % _size_step(num_filled) // WIDTH_STEP if few_sizes else 0
        num_tokens = num_filled + num_extra * WIDTH_STEP
        at = gather_ranges(target_B, lengths_B)
        tokens_T = np.full(num_tokens, -1, dtype=np.int64)
        positions_T = np.zeros(num_tokens, dtype=np.int64)
        owner_T = np.full(num_tokens, len(chosen_B), dtype=np.int64)
        tokens_T[at] = gather_ranges(begins_S[chosen_B], lengths_B)
        positions_T[at] = gather_ranges(np.zeros_like(lengths_B), lengths_B)
        owner_T[at] = np.repeat(np.arange(len(chosen_B)), lengths_B)
        widths_R = np.concatenate([self.widths[first:stop], np.full(num_extra, WIDTH_STEP)])
        widths, counts = np.unique(-widths_R, return_counts=True)
        groups = tuple((int(count), int(-width)) for width, count in zip(widths, counts, strict=True))
        return PackedBatch(chosen_B, tokens_T, positions_T, owner_T, groups)


def pack_rows(lengths_S: Ints, max_width: int) -> Rows:
    """Pack S sequences into rows of 32, 64, 96, … tokens, as full as their lengths allow.

    The longest sequence comes first. The room that is left in its row goes to the longest sequence that fits (best fit
    decreasing). All rows with the same lengths are made at once. A sequence without tokens takes one token of padding.

    Args:
        lengths_S: tokens of each sequence, shape (S,).
        max_width: largest width of a row; a longer sequence gets a wider row of its own.
    """
    sizes_S = np.maximum(lengths_S, 1)
    by_length = np.argsort(sizes_S, kind="stable")
    counts = np.bincount(sizes_S)
    next_of = np.concatenate([[0], np.cumsum(counts)])[:-1]  # the next sequence of each length in by_length
    made: list[tuple[int, list[int], Ints]] = []
    for length in range(len(counts) - 1, 0, -1):
        while counts[length]:
            width, pattern = _best_row(counts, length, max_width)
            uses = np.bincount(pattern)
            num_rows = int((counts[: len(uses)][uses > 0] // uses[uses > 0]).min())
            columns = []
            for size in pattern:
                columns.append(by_length[next_of[size] : next_of[size] + num_rows])
                next_of[size] += num_rows
                counts[size] -= num_rows
            made.append((width, pattern, np.stack(columns, axis=1)))
    return _arrange(made)


def lay_end_to_end(
    begins_S: Ints,
    lengths_S: Ints,
    sequences_S: Ints,
    token_budget: int,
    num_at_once: int = 1,
) -> Iterator[PackedBatch]:
    """Cut S sequences into batches of at most `token_budget` tokens, longest first, without rows and padding.

    Args:
        begins_S: index in the ids at which each sequence begins.
        lengths_S: number of its tokens, which may be 0.
        sequences_S: number of the sequence.
        token_budget: largest number of tokens in a batch; one sequence is always allowed.
        num_at_once: batches that are computed at once; with more than 1 all threads end together.
    """
    order = np.argsort(-lengths_S, kind="stable")
    for batch in cut_for_cores(np.cumsum(lengths_S[order]), token_budget, num_at_once):
        members = order[batch]
        lengths_B = lengths_S[members]
        yield PackedBatch(
            sequences=sequences_S[members],
            tokens=gather_ranges(begins_S[members], lengths_B),
            positions=gather_ranges(np.zeros_like(lengths_B), lengths_B),
            owner=np.repeat(np.arange(len(members)), lengths_B),
            groups=(),
        )


def _size_step(num_tokens: int) -> int:
    return next((step for above, step in SIZE_STEPS if num_tokens > above), WIDTH_STEP)


def _best_row(counts: Ints, length: int, max_width: int) -> tuple[int, list[int]]:
    """Return width and lengths of the row for a sequence of `length` that costs least for each real token."""
    narrowest = -(-length // WIDTH_STEP) * WIDTH_STEP
    best, best_cost = (narrowest, [length]), np.inf
    for width in range(narrowest, min(max_width, narrowest + MAX_WIDER * WIDTH_STEP) + 1, WIDTH_STEP):
        pattern = _pattern(counts, length, width)
        filled = sum(pattern)
        cost = width * (LINEAR_COST + ATTENTION_COST + ATTENTION_COST_OF_WIDTH * width) / filled
        if cost < best_cost:
            best, best_cost = (width, pattern), cost
        if filled >= GOOD_FILL * width or filled == width or len(pattern) == counts.sum():
            break
    return best


def _pattern(counts: Ints, length: int, width: int) -> list[int]:
    """Return the lengths of a row that begins with `length`; each next length is the longest that fits."""
    left = counts[: width + 1].copy()
    pattern, room = [length], width - length
    left[length] -= 1
    while room:
        fitting = np.flatnonzero(left[: room + 1])
        if not len(fitting):
            break
        size = int(fitting[-1])
        times = min(int(left[size]), room // size)
        pattern += [size] * times
        left[size] -= times
        room -= size * times
    return pattern


def _arrange(made: list[tuple[int, list[int], Ints]]) -> Rows:
    """Order the rows, widest first."""
    made = sorted(made, key=lambda item: -item[0])
    starts = [np.cumsum([0, *pattern[:-1]]) for _, pattern, _ in made]
    num_rows = np.array([len(members) for _, _, members in made], dtype=np.int64)
    first_row = np.cumsum(num_rows) - num_rows
    empty = np.zeros(0, dtype=np.int64)
    rows_of = [
        np.repeat(np.arange(first, first + len(members)), members.shape[1])
        for first, (_, _, members) in zip(first_row, made, strict=True)
    ]
    starts_of = [np.tile(start, len(members)) for start, (_, _, members) in zip(starts, made, strict=True)]
    return Rows(
        widths=np.concatenate([empty, *(np.full(len(members), width) for width, _, members in made)]),
        sequences=np.concatenate([empty, *(members.reshape(-1) for _, _, members in made)]),
        row_of=np.concatenate([empty, *rows_of]),
        start_of=np.concatenate([empty, *starts_of]),
    )
