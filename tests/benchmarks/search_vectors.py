"""Vectors for the benchmark of search: made up, or those of real texts, repeated with changes."""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.vectors.unit import unit_rows
from tests.benchmarks.incremental import base_texts

__all__ = ["DIM", "NIGHTS_FROM", "ROWS_PER_OBJECT", "Float32", "Vectors", "made_up_vectors"]

DIM = 384
INNER_DIM = 96
CENTRES = 2_000
ROWS_PER_OBJECT = 10_000
NIGHTS_FROM = 1_000_000
"""Number of the object of the first night."""
Float32 = np.ndarray[Any, np.dtype[np.float32]]


def made_up_vectors(seed: int, num: int) -> Float32:
    """Return made-up unit vectors of shape (num, 384)."""
    shared = np.random.default_rng(0)
    centres = shared.standard_normal((CENTRES, INNER_DIM), np.float32)
    outward = shared.standard_normal((INNER_DIM, DIM), np.float32) / np.float32(INNER_DIM**0.5)
    own = np.random.default_rng(seed + 1)
    inner = 0.7 * (centres[own.integers(0, CENTRES, num)] + own.standard_normal((num, INNER_DIM), np.float32))
    vectors = inner @ outward + 0.1 * own.standard_normal((num, DIM), np.float32)
    return unit_rows(vectors)


def changed_texts(texts: Sequence[str]) -> Iterator[str]:
    """Return the texts, then the same again and again, each with one word replaced by a word of another."""
    words = sorted({word for text in texts for word in text.split()})
    chance = random.Random(0)
    yield from texts
    while True:
        for text in texts:
            parts = text.split()
            parts[chance.randrange(len(parts))] = chance.choice(words)
            yield " ".join(parts)


def corpus_vectors(corpus: str, keep: str, num: int) -> Float32:
    """Return unit vectors of the texts of a corpus, from the file where they are kept, or encode them and keep them."""
    if Path(keep).exists():
        kept: Float32 = np.load(keep, mmap_mode="r")
        assert len(kept) >= num, f"{keep} has {len(kept):,} vectors, {num:,} are needed: remove it"
        return kept
    encoder = SentenceEncoder.from_pretrained()
    texts = changed_texts([text for text in base_texts(corpus) if text.strip()])
    made = np.lib.format.open_memmap(f"{keep}.part", "w+", np.float32, (num, DIM))
    for first in range(0, num, ROWS_PER_OBJECT):
        block = list(itertools.islice(texts, min(ROWS_PER_OBJECT, num - first)))
        made[first : first + len(block)] = unit_rows(np.asarray(encoder.encode(block)))
    made.flush()
    Path(f"{keep}.part").rename(keep)
    return made


class Vectors:
    """Where the vectors of objects and of queries come from: made up, or a corpus."""

    def __init__(self, num_rows: int, num_nights: int, num_queries: int, corpus: str | None, keep: str) -> None:
        """Make or read them.

        Args:
            num_rows: rows of the table.
            num_nights: nights that add a hundredth of the rows.
            num_queries: queries.
            corpus: folder of texts, None for made-up vectors.
            keep: file of the corpus's vectors.
        """
        self._rows_per_night = max(1, num_rows // 100)
        self._num_rows = num_rows
        self._num_queries = num_queries
        num = num_rows + num_nights * self._rows_per_night + num_queries
        self._corpus = None if corpus is None else corpus_vectors(corpus, keep, num)

    def of_object(self, number: int, num_rows: int) -> Float32:
        """Return the vectors of an object: the table's by number, those of nights from `NIGHTS_FROM` on."""
        if self._corpus is None:
            return made_up_vectors(number, num_rows)
        night = number - NIGHTS_FROM
        first = (
            number * ROWS_PER_OBJECT if night < 0 else self._num_rows + self._num_queries + night * self._rows_per_night
        )
        return np.array(self._corpus[first : first + num_rows])

    def of_queries(self) -> Float32:
        """Return the vectors of the queries, which are no rows of the table."""
        if self._corpus is None:
            return made_up_vectors(5_000_000, self._num_queries)
        return np.array(self._corpus[self._num_rows : self._num_rows + self._num_queries])
