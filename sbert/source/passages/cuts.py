"""Choose where documents are cut into passages, by nothing but the text around each cut.

A cut can fall between two units (sentences, or parts of a sentence that is too long). Each such place has a level (heading,
paragraph, sentence, line, word) and a hash of the text that follows it. A place becomes a cut when no place within half a
passage on either side has a higher level, or the same level and a higher hash. What is still too long is cut once more
near its middle. So an edit moves only the cuts around it, and passages are between a half and a whole of the limit long
where the text allows it.

Shapes: U units; place u lies after unit u.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Level", "choose_cuts", "level_of", "place_keys"]

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

LEVEL_SHIFT = np.uint64(60)


class Level(IntEnum):
    """Levels of places for a cut. A place of level NONE is inside a unit."""

    NONE = 0
    CHARACTER = 1
    WORD = 2
    LINE = 3
    SENTENCE = 4
    PARAGRAPH = 5
    HEADING = 6
    ALWAYS = 7
    """The end of a document, or of a section that stays by itself."""


def place_keys(levels: npt.NDArray[np.uint8], next_hashes: Keys) -> Keys:
    """Return one number for each place: a better place has a higher number.

    Args:
        levels: level of each place, shape (U,).
        next_hashes: hash of the unit after each place, shape (U,).
    """
    keys: Keys = (levels.astype(np.uint64) << LEVEL_SHIFT) | (next_hashes >> np.uint64(4))
    return keys


def level_of(keys: Keys) -> Keys:
    """Return the level of each place."""
    levels: Keys = keys >> LEVEL_SHIFT
    return levels


def choose_cuts(num_tokens: Ints, keys: Keys, limits: Ints) -> Mask:
    """Return after which units to cut, shape (U,).

    No passage has more tokens than its limit, unless one unit alone has.

    Args:
        num_tokens: tokens of each unit, shape (U,).
        keys: from `place_keys`; the last place has the level ALWAYS.
        limits: most tokens of a passage at each unit; equal between two places of level ALWAYS.
    """
    ends = np.cumsum(num_tokens)
    table = _RangeMax(keys)
    cuts: Mask = level_of(keys) == Level.ALWAYS
    cuts |= _is_best_around(ends, keys, limits, table)
    while True:
        more = _cuts_of_long(ends, cuts, limits, table)
        if not len(more):
            return cuts
        cuts[more] = True


def _is_best_around(ends: Ints, keys: Keys, limits: Ints, table: "_RangeMax") -> Mask:
    """Return which places are better than all others within half a passage."""
    places = np.arange(len(keys))
    reach = limits // 2
    # Places at a distance of less than half a passage, and the beginning of the first document.
    low = np.searchsorted(ends, ends - reach, side="right")
    high = np.searchsorted(ends, ends + reach, side="left")
    best_before = table.max(low, places)
    best_after = table.max(places + 1, high)
    is_best: Mask = (keys > best_before) & (keys > best_after) & (ends >= reach)
    return is_best


def _cuts_of_long(ends: Ints, cuts: Mask, limits: Ints, table: "_RangeMax") -> Ints:
    """Return one more cut for each passage of several units that is longer than its limit."""
    last = np.flatnonzero(cuts)
    first = np.concatenate([[0], last[:-1] + 1])
    begin = np.concatenate([[0], ends[last[:-1]]])
    end, limit = ends[last], limits[last]
    is_long = (end - begin > limit) & (last > first)
    first, last, begin, end, limit = (part[is_long] for part in (first, last, begin, end, limit))
    size = end - begin
    # Two passages are enough: both must fit. Else the cut falls into the middle half.
    is_two = size <= 2 * limit
    margin = np.where(is_two, np.maximum(size - limit, limit // 4), size // 4)
    low = np.clip(np.searchsorted(ends, begin + margin, side="left"), first, last)
    high = np.clip(np.searchsorted(ends, end - margin, side="right"), first, last)
    places = table.argmax(low, high)
    is_empty = high <= low
    if is_empty.any():
        places[is_empty] = _nearest_to_middle(ends, first[is_empty], last[is_empty], (begin + size // 2)[is_empty])
    return places


def _nearest_to_middle(ends: Ints, first: Ints, last: Ints, middle: Ints) -> Ints:
    after = np.clip(np.searchsorted(ends, middle, side="left"), first, last - 1)
    before = np.clip(after - 1, first, last - 1)
    nearest: Ints = np.where(middle - ends[before] <= ends[after] - middle, before, after)
    return nearest


class _RangeMax:
    """The largest of any range of keys, from tables of ranges whose length is a power of two."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._levels: list[Ints] = [np.arange(len(keys))]

    def _level(self, level: int) -> Ints:
        """Return the place of the largest of the 2 ** level keys from each place on; the first of equal ones."""
        while len(self._levels) <= level:
            below = self._levels[-1]
            step = 1 << (len(self._levels) - 1)
            left, right = below[:-step], below[step:]
            self._levels.append(np.where(self._keys[left] >= self._keys[right], left, right))
        return self._levels[level]

    def argmax(self, low: Ints, high: Ints) -> Ints:
        """Return the place of the largest key of each range low … high - 1; -1 for empty ranges."""
        greatest = np.full(len(low), -1, dtype=np.int64)
        lengths = high - low
        sizes = np.frexp(np.maximum(lengths, 1).astype(np.float64))[1] - 1
        for level in np.unique(sizes[lengths > 0]):
            here = (sizes == level) & (lengths > 0)
            places = self._level(int(level))
            left, right = places[low[here]], places[high[here] - (1 << int(level))]
            greatest[here] = np.where(self._keys[left] >= self._keys[right], left, right)
        return greatest

    def max(self, low: Ints, high: Ints) -> Keys:
        """Return the largest key of each range; 0 for empty ranges."""
        places = self.argmax(low, high)
        largest: Keys = np.where(places >= 0, self._keys[places], np.uint64(0))
        return largest
