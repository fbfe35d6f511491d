"""PostgreSQL's own 64-bit hash of bytes, `hashbyteaextended`, over whole Arrow columns.

The server hashes rows without sending them, and this module computes the same numbers. The function is Bob Jenkins' lookup3
as PostgreSQL has it (src/common/hashfn.c, `hash_bytes_extended`, on a little-endian machine). All rows of a block go through
one round of twelve bytes together; rows are sorted by length, so that a round touches the rows that still have bytes.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["hash_values", "hash_words"]

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

START = 0x9E3779B9 + 3_923_095
"""Added to the length, this begins each of the three words of the state."""
ROUND_BYTES = 12


def hash_values(values: pa.LargeBinaryArray, seed: int) -> U64:
    """Return the hash of each value, shape (rows,); of a null value any number.

    Args:
        values: bytes of any length.
        seed: chooses one function of the family (not 0).
    """
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    starts, sizes = offsets[:-1][order], lengths[order]
    data = values.buffers()[2]
    padded = np.zeros((len(data) if data is not None else 0) + ROUND_BYTES, np.uint8)
    if data is not None:
        padded[:-ROUND_BYTES] = np.frombuffer(data, np.uint8)
    words = np.ndarray((len(padded) - 3,), np.dtype("<u4"), padded, strides=(1,))  # a word at every byte
    a, b, c = _begin(sizes.astype(np.uint32), seed)
    num_rounds = int(sizes[0]) // ROUND_BYTES if len(sizes) else 0
    num_active = np.searchsorted(-sizes, -ROUND_BYTES * np.arange(1, num_rounds + 1), side="right")
    for number in range(num_rounds):
        rows = slice(0, int(num_active[number]))
        at = starts[rows] + ROUND_BYTES * number
        a[rows] += words[at]
        b[rows] += words[at + 4]
        c[rows] += words[at + 8]
        _mix(a[rows], b[rows], c[rows])
    at = starts + sizes - sizes % ROUND_BYTES
    left = (sizes % ROUND_BYTES).astype(np.int64)
    a += _first_bytes(words[at], left)
    b += _first_bytes(words[at + 4], left - 4)
    c += _first_bytes(words[at + 8], left - 8) << np.uint32(8)  # the lowest byte is the length's
    hashes = np.empty(len(values), np.uint64)
    hashes[order] = _finish(a, b, c)
    return hashes


def hash_words(words_WN: U32, seed: int) -> U64:
    """Return the hash of rows of equal length, shape (rows,).

    Args:
        words_WN: the rows' bytes as little-endian words, shape (words, rows).
        seed: chooses one function of the family (not 0).
    """
    num_words, num_rows = words_WN.shape
    a, b, c = _begin(np.full(num_rows, 4 * num_words, np.uint32), seed)
    whole = num_words - num_words % 3
    for first in range(0, whole, 3):
        a += words_WN[first]
        b += words_WN[first + 1]
        c += words_WN[first + 2]
        _mix(a, b, c)
    if whole < num_words:
        a += words_WN[whole]
    if whole + 1 < num_words:
        b += words_WN[whole + 1]
    return _finish(a, b, c)


def _begin(lengths: U32, seed: int) -> tuple[U32, U32, U32]:
    start = lengths + np.uint32(START & 0xFFFFFFFF)
    a, b, c = start + np.uint32(seed >> 32), start + np.uint32(seed & 0xFFFFFFFF), start.copy()
    _mix(a, b, c)
    return a, b, c


def _first_bytes(words: U32, counts: npt.NDArray[np.int64]) -> U32:
    """Return words with all but their first `counts` bytes zero."""
    kept = np.clip(counts, 0, 4)
    masks = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
    return words & masks[kept]


def _rotated(words: U32, bits: int) -> U32:
    rotated = words << np.uint32(bits)
    rotated |= words >> np.uint32(32 - bits)
    return rotated


def _mix(a: U32, b: U32, c: U32) -> None:
    """Mix three words, in place."""
    for x, y, z, bits in ((a, b, c, 4), (b, c, a, 6), (c, a, b, 8), (a, b, c, 16), (b, c, a, 19), (c, a, b, 4)):
        np.subtract(x, z, out=x)
        np.bitwise_xor(x, _rotated(z, bits), out=x)
        np.add(z, y, out=z)


def _finish(a: U32, b: U32, c: U32) -> U64:
    """Mix three words for the last time; return two of them as one number."""
    for x, y, bits in ((c, b, 14), (a, c, 11), (b, a, 25), (c, b, 16), (a, c, 4), (b, a, 14), (c, b, 24)):
        np.bitwise_xor(x, y, out=x)
        np.subtract(x, _rotated(y, bits), out=x)
    return (b.astype(np.uint64) << np.uint64(32)) | c
