"""The documents of a table: passages put together again, or rows that are whole documents.

A document lies in one split: a split is made of whole records of an object. So one split is read at a time, and memory holds
one document and the ids of the split. The white space and the headings between two passages are not in the table; a line
break stands for them.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.errors import ColumnError
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table
from sbert.table.shard_layout import read_split
from sbert.table.table_shard import TableShard

__all__ = ["MAX_CHARACTERS", "Document", "DocumentReader", "document_of_text"]

Int64 = npt.NDArray[np.int64]

MAX_CHARACTERS = 2_000_000
"""Characters of a document that are looked at; what follows counts for its digest only."""
DIGEST_BYTES = 16
PASSAGE_PLACES = ("document_id", "passage", "start", "end")
HAS_TEXT = re.compile(r"\w")


@dataclass(frozen=True)
class Document:
    """The text of a document, and where each part of it stands in the document."""

    source: str
    id: str
    digest: bytes
    """Hash of all its passages and their places: another digest is another document."""
    text: str
    """Empty when the table keeps no text of it."""
    text_starts: Int64
    """Where each part begins in `text`, ascending."""
    document_starts: Int64
    """Where each part begins in the document (characters)."""

    @property
    def has_text(self) -> bool:
        """Return whether there is a letter or a digit in it."""
        return HAS_TEXT.search(self.text) is not None

    def places(self, text_places: Int64) -> Int64:
        """Return where places of `text` are in the document."""
        part = np.searchsorted(self.text_starts, text_places, side="right") - 1
        document_places: Int64 = self.document_starts[part] + text_places - self.text_starts[part]
        return document_places


class DocumentReader:
    """Reads the documents of a table, split by split."""

    def __init__(self, table: Table) -> None:
        """Find the columns.

        Raises:
            ColumnError: the table keeps no text.
        """
        self.table = table
        kept = table.kept_schema
        self.has_passages = set(PASSAGE_PLACES) <= set(kept)
        try:
            self.text_column: str | None = words_text_column(table)
        except ColumnError as error:
            raise ColumnError(f"a summary needs the text of the documents: {error}") from error
        if self.has_passages:  # rows that were not cut have no passage: their text may be kept too
            recorded = (table.recorded_settings or {}).get("source") or {}
            asked = recorded.get("text_column") or "text"
            self.text_column = asked if asked in kept else None
        self._columns = [
            *("source", "id", "text_hash"),
            *(PASSAGE_PLACES if self.has_passages else ()),
            *([self.text_column] if self.text_column else ()),
        ]

    def documents(self, shards: Iterable[TableShard], split: str) -> Iterator[Document]:
        """Yield the documents of a split in their order.

        Of two documents of one source with the same id the later one counts, as of two such rows.
        """
        rows = self._rows(shards, split, self._columns)
        if not self.has_passages:
            yield from (self._whole(row) for row in rows)
            return
        runs_left = Counter(key for key, _ in groupby(self._rows(shards, split, ["source", "document_id"]), key=_key))
        for key, passages in groupby(rows, key=_key):
            runs_left[key] -= 1
            if runs_left[key]:
                continue
            yield self._joined(*key, passages)

    def find(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents of these ids, whatever their source, ordered by id and source."""
        column = "document_id" if self.has_passages else "id"
        wanted = pl.Series(sorted(set(ids)), dtype=pl.String).implode()
        rows = self.table.scan().select(self._columns).filter(pl.col(column).is_in(wanted)).collect()
        if not self.has_passages:
            return [self._whole(row) for row in rows.sort("id", "source").iter_rows(named=True)]
        ordered = rows.sort("document_id", "source", "start").iter_rows(named=True)
        return [self._joined(*key, passages) for key, passages in groupby(ordered, key=_key)]

    def _rows(self, shards: Iterable[TableShard], split: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        for block in read_split(self.table.uri, shards, split, columns):
            yield from block.select(columns).to_pylist()

    def _whole(self, row: dict[str, Any]) -> Document:
        assert self.text_column is not None
        return document_of_text(row["source"], row["id"], row[self.text_column] or "", row["text_hash"])

    def _joined(self, source: str, document_id: str, passages: Iterable[dict[str, Any]]) -> Document:
        digest = hashlib.sha256()
        parts: list[tuple[int, str]] = []
        size = 0
        for row in passages:
            if row["passage"] is None or row["start"] is None:  # a row that was not cut
                return self._whole_or_nothing(row, document_id)
            digest.update(f"{row['start']}:{len(row['passage'])}:".encode())
            digest.update(row["passage"].encode("utf-8", "surrogatepass"))
            if size <= MAX_CHARACTERS:
                parts.append((row["start"], row["passage"]))
                size += len(row["passage"])
        return _join(source, document_id, digest.digest()[:DIGEST_BYTES], sorted(parts))

    def _whole_or_nothing(self, row: dict[str, Any], document_id: str) -> Document:
        text = row[self.text_column] if self.text_column else None
        return document_of_text(row["source"], document_id, text or "", row["text_hash"])


def document_of_text(source: str, document_id: str, text: str, text_hash: bytes = b"") -> Document:
    """Return a document that is one text."""
    content = hashlib.sha256(text.encode("utf-8", "surrogatepass") + b"|" + text_hash).digest()
    return Document(
        source=source,
        id=document_id,
        digest=content[:DIGEST_BYTES],
        text=text[:MAX_CHARACTERS],
        text_starts=np.zeros(1, np.int64),
        document_starts=np.zeros(1, np.int64),
    )


def _join(source: str, document_id: str, digest: bytes, parts: list[tuple[int, str]]) -> Document:
    """Join passages in the order of their places; text that a passage repeats of the one before stands once."""
    texts: list[str] = []
    text_starts: list[int] = []
    document_starts: list[int] = []
    length = reach = 0
    for start, passage in parts:
        own = passage[max(0, reach - start) :]
        if not own:
            continue
        begin = start + len(passage) - len(own)
        if texts and begin > reach:
            gap = "\n" if begin == reach + 1 else "\n\n"
            texts.append(gap)
            length += len(gap)
        text_starts.append(length)
        document_starts.append(begin)
        texts.append(own)
        length += len(own)
        reach = begin + len(own)
    joined = "".join(texts)
    return Document(
        source=source,
        id=document_id,
        digest=digest,
        text=joined[:MAX_CHARACTERS],
        text_starts=np.array(text_starts or [0], np.int64),
        document_starts=np.array(document_starts or [0], np.int64),
    )


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["source"], row["document_id"]
