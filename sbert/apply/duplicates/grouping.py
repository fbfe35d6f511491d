"""Group texts that say the same, with a result that depends on the texts alone.

Texts are taken in the order of their hashes. A text is the representative of a group of its own unless an earlier
representative says the same; then it belongs to the most similar one. This is the greedy independent set of a graph in a
random order: every text says the same as its representative (so there are no chains), and no two representatives say the
same. A hash is a random number, so a text that comes or goes changes few other texts: one on average, whatever the graph
(Censor-Hillel, Haramaty and Karnin 2016, "Optimal dynamic distributed MIS").

After a change only texts are decided again that are near a text which became, or ceased to be, a representative. Their
decision can concern others, which are decided in the next round. A decision depends on earlier texts only, so the rounds
end, and the result is that of a full run.

A text is compared with at most `max_compared` earlier representatives that are similar, the first in the order of hashes.
A crowd of texts that are all alike therefore costs time in proportion to its size, not to its square.
"""

import numpy as np
import numpy.typing as npt
import torch

from sbert.apply.duplicates.distinct_texts import DistinctTexts, Ints
from sbert.apply.duplicates.rule import PairRule
from sbert.vectors.precision import Float32

__all__ = ["Grouping"]

BLOCK = 4_096
"""Texts that are decided together."""
SUB_BLOCK = 512
TILE = 2_048
"""Texts that a block is compared with at a time."""
CHUNK = 16_384
"""Short forms that are read at a time."""
SLACK = 1e-5
"""Rounding of float32 in the product of two short forms, at most."""


class Grouping:
    """The representative of each text, by rank. `-1` stands for not decided."""

    def __init__(self, texts: DistinctTexts, rule: PairRule, max_compared: int, representatives: Ints | None) -> None:
        """Start from the representatives of an earlier run, shape (texts,); by default from none."""
        self._texts = texts
        self._rule = rule
        self._max_compared = max_compared
        self._floor = rule.similarity - SLACK
        num_texts = len(texts)
        self.representatives: Ints = (
            np.full(num_texts, -1, np.int64) if representatives is None else representatives.copy()
        )
        self._is_rep = self.representatives == np.arange(num_texts)
        self.num_decided = 0
        """Decisions that were made: a measure of the work."""

    def settle(self, removed: tuple[Ints, Float32] | None = None) -> None:
        """Decide all texts that have no representative, and all that this, and texts that are gone, can concern.

        Args:
            removed: representatives of the earlier run that are no longer among the texts: the rank that each would have, in
                ascending order, and their short forms.
        """
        dirty = self.representatives < 0
        if removed is not None:
            dirty |= self._near(*removed)
        while dirty.any():
            ranks = np.flatnonzero(dirty)
            before = self._is_rep[ranks]
            for first in range(0, len(ranks), BLOCK):
                self._decide(ranks[first : first + BLOCK])
                self._texts.release()
            changed = ranks[self._is_rep[ranks] != before]
            if dirty.all():
                return
            near = np.zeros(len(dirty), np.bool_)
            for first in range(0, len(changed), BLOCK):
                part = changed[first : first + BLOCK]
                near |= self._near(part, self._texts.short_at(part))
            dirty = near & ~dirty

    def _near(self, ranks: Ints, others_RS: Float32) -> npt.NDArray[np.bool_]:
        """Return which texts may be similar to another one before them; the others are given in the order of their ranks."""
        near = np.zeros(len(self._texts), np.bool_)
        others = torch.from_numpy(others_RS)
        for first in range(int(ranks[0]) if len(ranks) else len(near), len(near), BLOCK):
            last = min(first + BLOCK, len(near))
            block = torch.from_numpy(self._texts.short(first, last))
            num_before = int(np.searchsorted(ranks, last))
            parts = [others[at : min(at + TILE, num_before)] for at in range(0, num_before, TILE)]
            most = torch.stack([(block @ part.T).amax(dim=1) for part in parts]).amax(dim=0)
            near[first:last] = (most >= self._floor).numpy()
            self._texts.release()
        return near

    def _decide(self, ranks: Ints) -> None:
        """Decide texts, given in ascending order, when all earlier texts are decided."""
        self._is_rep[ranks] = False
        block_BS = torch.from_numpy(self._texts.short_at(ranks))
        outside = _Candidates(len(ranks), self._max_compared)
        self._find_outside(ranks, block_BS, outside)
        by_row = outside.by_row()
        for first in range(0, len(ranks), SUB_BLOCK):
            last = min(first + SUB_BLOCK, len(ranks))
            inside = _at_least(block_BS[first:last] @ block_BS[:last].T, self._floor)
            inside[:, :first] &= self._is_rep[ranks[:first]]
            inside = inside & (np.arange(last) < np.arange(first, last)[:, None])
            has_some: npt.NDArray[np.bool_] = np.any(inside, axis=1)
            for row in range(first, last):
                similar = by_row.get(row)
                if similar is None and not has_some[row - first]:
                    self._set(int(ranks[row]), int(ranks[row]))
                    continue
                others, cosines = similar or (np.zeros(0, np.int64), np.zeros(0))
                if has_some[row - first]:
                    near = ranks[np.flatnonzero(inside[row - first])]
                    others, cosines = self._merged(int(ranks[row]), others, cosines, near[self._is_rep[near]])
                self._set(int(ranks[row]), self._representative_of(int(ranks[row]), others, cosines))
        self.num_decided += len(ranks)

    def _set(self, rank: int, representative: int) -> None:
        self.representatives[rank] = representative
        self._is_rep[rank] = representative == rank

    def _merged(
        self, rank: int, others: Ints, cosines: npt.NDArray[np.float64], near: Ints
    ) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Merge representatives of the block with earlier ones; the first `max_compared` by rank stay."""
        if len(others) >= self._max_compared:
            near = near[near < others[-1]]
        new = self._texts.cosines(np.full(len(near), rank), near)
        is_similar = new >= self._rule.similarity
        every, scores = np.append(others, near[is_similar]), np.append(cosines, new[is_similar])
        order = np.argsort(every)[: self._max_compared]
        return every[order], scores[order]

    def _representative_of(self, rank: int, others: Ints, cosines: npt.NDArray[np.float64]) -> int:
        """Return the most similar representative that says the same, else the text itself."""
        if not self._rule.needs_texts:
            return int(others[np.lexsort((others, -cosines))[0]]) if len(others) else rank
        for place in np.lexsort((others, -cosines)):
            other = int(others[place])
            if self._rule.is_same(float(cosines[place]), self._texts.facts_of(rank), self._texts.facts_of(other)):
                return other
        return rank

    def _find_outside(self, ranks: Ints, block_BS: torch.Tensor, candidates: "_Candidates") -> None:
        """Find similar representatives before each text of a block that are not in the block, in ascending order."""
        end = int(ranks[-1])
        for first in range(0, end, CHUNK):
            last = min(first + CHUNK, end)
            reps = np.flatnonzero(self._is_rep[first:last]) + first  # none is in the block, where all are open
            if not len(reps):
                continue
            short = self._texts.short(first, last)[reps - first]
            for at in range(0, len(reps), TILE):
                rows = np.flatnonzero(candidates.is_open & (ranks > reps[at]))
                if not len(rows):
                    return
                is_all = len(rows) == len(ranks)
                left = block_BS if is_all else block_BS[torch.from_numpy(rows)]
                scores = left @ torch.from_numpy(short[at : at + TILE]).T
                hits = np.flatnonzero((scores.amax(dim=1) >= self._floor).numpy())
                if len(hits):
                    pairs = (scores[torch.from_numpy(hits)] >= self._floor).nonzero().numpy()
                    self._add(candidates, ranks, rows[hits[pairs[:, 0]]], reps[at + pairs[:, 1]])
            self._texts.release()

    def _add(self, candidates: "_Candidates", ranks: Ints, rows: Ints, others: Ints) -> None:
        """Add the similar pairs (row of the block, representative), as far as there is room."""
        is_before = others < ranks[rows]
        rows, others = rows[is_before], others[is_before]
        while len(rows):
            starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
            number = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
            now = number < 2 * self._max_compared  # a crowd fills the room long before its end
            cosines = self._texts.cosines(ranks[rows[now]], others[now])
            is_similar = cosines >= self._rule.similarity
            candidates.add(rows[now][is_similar], others[now][is_similar], cosines[is_similar])
            later = ~now & candidates.is_open[rows]
            rows, others = rows[later], others[later]


def _at_least(scores: torch.Tensor, floor: float) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = (scores >= floor).numpy()
    return flags


class _Candidates:
    """The first similar representatives of each row of a block."""

    def __init__(self, num_rows: int, room: int) -> None:
        self._room = room
        self._counts = np.zeros(num_rows, np.int64)
        self._parts: list[tuple[Ints, Ints, npt.NDArray[np.float64]]] = []

    @property
    def is_open(self) -> npt.NDArray[np.bool_]:
        """Whether a row has room for more."""
        return self._counts < self._room

    def add(self, rows: Ints, others: Ints, cosines: npt.NDArray[np.float64]) -> None:
        """Add candidates, which come in ascending order within each row."""
        if not len(rows):
            return
        starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
        number = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
        fits = self._counts[rows] + number < self._room
        rows, others, cosines = rows[fits], others[fits], cosines[fits]
        np.add.at(self._counts, rows, 1)
        self._parts.append((rows, others, cosines))

    def by_row(self) -> dict[int, tuple[Ints, npt.NDArray[np.float64]]]:
        """Return ranks, ascending, and cosines of each row that has some."""
        if not self._parts:
            return {}
        rows, others, cosines = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((others, rows))
        rows, others, cosines = rows[order], others[order], cosines[order]
        names, starts = np.unique(rows, return_index=True)
        ends = np.append(starts[1:], len(rows))
        return {
            int(name): (others[start:end], cosines[start:end])
            for name, start, end in zip(names, starts, ends, strict=True)
        }
