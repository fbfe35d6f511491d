"""Find texts that are nearly the same, by MinHash.

Two texts have equal minima under a random hash function with a probability that equals the Jaccard similarity of their
shingle sets (Broder 1997). Texts that share a band of minima are candidates (Leskovec et al., Mining of Massive Datasets,
section 3.4). Candidates are compared exactly. Everything is array arithmetic over all texts.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["normalize_texts", "text_clusters"]

NUM_BANDS, ROWS_PER_BAND = 21, 6
"""A pair of similarity 0.85 is a candidate with probability 0.99995, one of 0.4 with 0.08."""
MAX_GROUP = 40
"""In a larger group of candidates each text is compared only with its neighbours in the group."""
PAIRS_AT_ONCE = 200_000

Ints = npt.NDArray[np.int64]


def normalize_texts(texts: pl.Series) -> pl.Series:
    """Return texts in lower case, with letters and digits only and single spaces between words.

    A text without letters and digits stays as it is.
    """
    words = (
        texts.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars(" ")
    )
    return words.set(words == "", None).fill_null(texts)


def text_clusters(texts: pl.Series, similarity: float) -> Ints:
    """Return the number of the cluster of each of N distinct normalized texts, shape (N,).

    Two texts are in one cluster when their shingle sets have at least this Jaccard similarity, or when a chain of such
    texts links them.
    """
    num_texts = len(texts)
    if num_texts == 0 or similarity >= 1:
        return np.arange(num_texts, dtype=np.int64)
    shingles, begins = _shingles(texts)
    firsts, seconds = _candidates(_signatures(shingles, begins))
    alike = _jaccard(shingles, begins, firsts, seconds) >= similarity
    firsts, seconds = firsts[alike], seconds[alike]
    graph = csr_array((np.ones(len(firsts), dtype=np.int8), (firsts, seconds)), shape=(num_texts, num_texts))
    clusters: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return clusters


def _shingles(texts: pl.Series) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Return the hashes of the distinct shingles of all texts in one array, and the place where each text begins."""
    padded = [f"  {text} " for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    owner = np.repeat(np.arange(len(padded)), lengths)
    hashes = points[:-2] * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= points[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
    hashes ^= points[2:] * np.uint64(0x165667B19E3779F9)
    inside = owner[:-2] == owner[2:]
    owner, hashes = owner[:-2][inside], hashes[inside]
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    fresh = np.append(True, (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1]))
    owner, hashes = owner[fresh], hashes[fresh]
    return hashes, np.searchsorted(owner, np.arange(len(padded) + 1))


def _signatures(shingles: npt.NDArray[np.uint64], begins: Ints) -> npt.NDArray[np.uint64]:
    """Return the minima of each text, shape (texts, bands x rows)."""
    rng = np.random.default_rng(0)
    size = NUM_BANDS * ROWS_PER_BAND
    odd = rng.integers(1, 2**63, size=size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    minima = np.empty((len(begins) - 1, size), dtype=np.uint64)
    for number in range(size):
        mixed = shingles * odd[number]
        mixed ^= mixed >> np.uint64(31)
        minima[:, number] = np.minimum.reduceat(mixed * odd[-1 - number], begins[:-1])
    return minima


def _candidates(minima: npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Return the pairs of texts that share a band."""
    pairs: list[Ints] = []
    for band in range(NUM_BANDS):
        rows = minima[:, band * ROWS_PER_BAND : (band + 1) * ROWS_PER_BAND]
        keys = np.bitwise_xor.reduce(rows * np.arange(1, 2 * ROWS_PER_BAND, 2, dtype=np.uint64), axis=1)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for gap in range(1, MAX_GROUP):
            same = ordered[gap:] == ordered[:-gap]
            if not same.any():
                break
            pairs.append(np.stack([order[:-gap][same], order[gap:][same]]))
    if not pairs:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    distinct = np.unique(np.sort(np.concatenate(pairs, axis=1), axis=0), axis=1)
    return distinct[0], distinct[1]


def _jaccard(shingles: npt.NDArray[np.uint64], begins: Ints, firsts: Ints, seconds: Ints) -> npt.NDArray[np.float64]:
    distinct, ids = np.unique(shingles, return_inverse=True)
    table = csr_array((np.ones(len(ids), dtype=np.int32), ids, begins), shape=(len(begins) - 1, max(1, len(distinct))))
    sizes = np.diff(begins)
    shared = np.zeros(len(firsts), dtype=np.float64)
    for begin in range(0, len(firsts), PAIRS_AT_ONCE):
        part = slice(begin, begin + PAIRS_AT_ONCE)
        shared[part] = table[firsts[part]].multiply(table[seconds[part]]).sum(axis=1)
    return shared / np.maximum(1, sizes[firsts] + sizes[seconds] - shared)
