"""Postings of a segment: for each term the rows that hold it and how often, and the number of terms of each row.

The arrays are those of a sparse matrix by columns. Terms are 64-bit hashes in ascending order, so a segment of any language
has one simple dictionary. A file of them is in safetensors' format: a JSON header, then the arrays as they are in memory, so
a query reads only the postings of its terms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from sbert.errors import TableError
from sbert.index.segment_cache import local_file
from sbert.index.words.terms import terms_of
from sbert.storage.errors import translate_errors
from sbert.storage.files import join
from sbert.table.word_segments import CHECK_COMMAND, WORDS_FOLDER, WordRecord

__all__ = ["Postings", "build_postings", "hash_terms", "open_segment", "postings_bytes"]

MAX_COUNT = 65_535


class Slices(Protocol):
    """An array that is read a slice at a time."""

    def __getitem__(self, key: slice) -> npt.NDArray[Any]:
        """Return a slice."""
        ...


@dataclass(frozen=True)
class Postings:
    """Postings of R rows, with T different terms and P pairs of a term and a row."""

    terms_T: npt.NDArray[np.uint64]
    """Hashes of the terms, ascending."""
    starts_T: npt.NDArray[np.int64]
    """Place of the first posting of each term, then P."""
    rows_P: Slices
    """Position of the row of each posting, ascending within a term."""
    counts_P: Slices
    """Occurrences of the term in the row, up to 65,535."""
    lengths_R: npt.NDArray[np.uint32]
    """Terms of each row."""

    def of(self, term: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
        """Return rows and counts of a term."""
        at = int(np.searchsorted(self.terms_T, np.uint64(term)))
        if at == len(self.terms_T) or self.terms_T[at] != term:
            return np.zeros(0, np.uint32), np.zeros(0, np.uint16)
        part = slice(int(self.starts_T[at]), int(self.starts_T[at + 1]))
        return self.rows_P[part], self.counts_P[part]


class PostingsBuilder:
    """Collects the terms of texts, block by block. Memory holds 14 bytes for each posting, twice while they are sorted."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.uint16]]] = []
        self._lengths: list[npt.NDArray[np.uint32]] = []
        self._num_rows = 0

    def add(self, texts: pl.Series) -> None:
        """Append rows."""
        terms = terms_of(texts)
        self._lengths.append(terms.list.len().to_numpy().astype(np.uint32))
        counted = (
            pl.DataFrame({"row": np.arange(len(texts), dtype=np.uint32) + np.uint32(self._num_rows), "term": terms})
            .explode("term", empty_as_null=True)
            .drop_nulls("term")
            .group_by("row", "term")
            .len()
            .sort("row")
        )
        counts = counted["len"].to_numpy().clip(0, MAX_COUNT).astype(np.uint16)
        self._parts.append((hash_terms(counted["term"]), counted["row"].to_numpy(), counts))
        self._num_rows += len(texts)

    def build(self) -> Postings:
        """Return the postings of all rows."""
        empty = (np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint16))
        terms, rows, counts = (np.concatenate(column) for column in zip(empty, *self._parts, strict=True))
        self._parts.clear()
        order = np.argsort(terms, kind="stable")  # rows stay ascending within a term
        terms = terms[order]
        firsts = (
            np.flatnonzero(np.concatenate([[True], terms[1:] != terms[:-1]])) if len(terms) else np.zeros(0, np.int64)
        )
        return Postings(
            terms_T=terms[firsts],
            starts_T=np.append(firsts, len(terms)).astype(np.int64),
            rows_P=rows[order],
            counts_P=counts[order],
            lengths_R=np.concatenate([np.zeros(0, np.uint32), *self._lengths]),
        )


def hash_terms(terms: pl.Series | Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each term, the same on every machine."""
    frame = pl.DataFrame({"term": pl.Series(terms, dtype=pl.String)})
    return frame.select(plh.col("term").nchash.xxhash64())["term"].to_numpy()


def postings_bytes(postings: Postings) -> bytes:
    """Return the content of a postings file."""
    from safetensors.numpy import save

    everything = slice(None)
    arrays = {
        "terms": postings.terms_T,
        "starts": postings.starts_T,
        "rows": np.ascontiguousarray(postings.rows_P[everything]),
        "counts": np.ascontiguousarray(postings.counts_P[everything]),
        "lengths": postings.lengths_R,
    }
    return bytes(save(arrays))


def open_segment(table_uri: str, record: WordRecord) -> Postings:
    """Open a segment, from a local copy if the table is in object storage. A query reads the postings of its terms only.

    Raises:
        TableError: its file is damaged.
        MissingError, StorageError: its file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    folder = join(table_uri, WORDS_FOLDER)
    uri = join(folder, record.data.name)
    path = local_file(folder, record.data.name, record.data, command=CHECK_COMMAND)
    try:
        with translate_errors(str(path)):
            file: Any = safe_open(path, "np")
        arrays = {name: file.get_tensor(name) for name in ("terms", "starts", "lengths")}
        arrays |= {name: file.get_slice(name) for name in ("rows", "counts")}
        postings = Postings(*(arrays[name] for name in ("terms", "starts", "rows", "counts", "lengths")))
    except (SafetensorError, KeyError, ValueError) as error:
        raise TableError(f"{uri}: this file of the word index is damaged ({error})") from error
    sizes = (len(postings.terms_T), len(postings.starts_T), len(postings.lengths_R))
    if sizes != (record.num_terms, record.num_terms + 1, record.num_rows):
        raise TableError(
            f"{uri}: this file of the word index is damaged ({sizes[2]} rows and {sizes[0]} terms, its record says "
            f"{record.num_rows} and {record.num_terms})"
        )
    return postings


def build_postings(texts: Iterable[pl.Series]) -> Postings:
    """Return the postings of texts that come in blocks."""
    builder = PostingsBuilder()
    for block in texts:
        builder.add(block)
    return builder.build()
