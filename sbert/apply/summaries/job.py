"""`SummaryJob`: a summary of each document, as a derived table with one row for each document.

The output is made of parts, one for each split of the embeddings table, since a document lies in one split. A split that
changed is built again. Of its documents only those whose passages changed are encoded and ranked; all others keep the row
that they have in the output before. A document's digest tells them apart.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from sbert.apply.summaries.documents import Document, DocumentReader
from sbert.apply.summaries.ranker import RANKERS
from sbert.apply.summaries.settings import SummaryBudget
from sbert.apply.summaries.summarizer import SUMMARY_SCHEMA, Summarizer
from sbert.apply.summaries.unchanged_rows import UnchangedRows
from sbert.derived.derived_table import DerivedTable
from sbert.derived.part_table import PartJob, Parts, part_fingerprint
from sbert.table.delta import Table
from sbert.table.shard_layout import locate_splits

__all__ = ["SummaryJob", "Tally"]

CHARACTERS_AT_ONCE = 1_000_000
DOCUMENTS_AT_ONCE = 1_000
"""Documents whose sentences are encoded together, at most; fewer when they are long."""


@dataclass
class Tally:
    """Documents of one run."""

    num_computed: int = 0
    num_kept: int = 0
    """Documents of a split that was built again, whose row was taken over."""


class SummaryJob(PartJob):
    """The sentences of each document that say most of it, in their order."""

    name: ClassVar[str] = "summarize"

    budget: SummaryBudget = Field(
        default_factory=SummaryBudget, description="Length of a summary, and the repetition that it may have."
    )
    max_ranked_sentences: int = Field(default=1_000, ge=2, le=10_000, description="Sentences of a document to rank.")
    ranker: str = Field(default="", description="Name of the ranker's folder in ``_rankers/``; empty for LexRank.")
    ranker_uri: str = Field(default="", description="The output beside which the ranker lies.")

    _tally: Tally = PrivateAttr(default_factory=Tally)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def tally(self) -> Tally:
        """The documents of the last run of this job object."""
        return self._tally

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the columns of the output."""
        return SUMMARY_SCHEMA

    def check(self, table: Table) -> None:
        """Check also that the table keeps texts.

        Raises:
            ColumnError: it keeps none.
        """
        super().check(table)
        DocumentReader(table)

    def fingerprint(self, table: Table) -> str:
        """Hash settings, ranker and encoder. Where the ranker lies does not matter: a folder can be moved."""
        own = self.model_dump_json(exclude={"ranker_uri"})
        parts = [self.name, str(self.code_version), own, table.encoder.fingerprint]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def parts(self, table: Table, before: DerivedTable | None) -> Parts:
        """Return a part for each split."""
        self._tally = Tally()
        shards = locate_splits(table.uri, table.shards())
        rows: dict[str, int] = {}
        for shard in shards:
            for split in shard.splits:
                rows[split.fingerprint] = rows.get(split.fingerprint, 0) + split.num_rows
        names = {split: str(count) for split, count in rows.items()}
        own = self.fingerprint(table)
        is_same_job = before is not None and before.info.job_fingerprint == own
        wanted = {part_fingerprint(name, content, own) for name, content in names.items()}
        unchanged = UnchangedRows(before if is_same_job else None, wanted)
        ranker = RANKERS.load(self.ranker_uri, self.ranker, table) if self.ranker else None
        summarizer = Summarizer(table, ranker, self.budget, self.max_ranked_sentences)
        reader = DocumentReader(table)

        def build(split: str) -> Iterator[pa.Table]:
            for documents in _batches(reader.documents(shards, split)):
                yield self._rows(documents, unchanged, summarizer)

        return Parts(names, build)

    def _rows(self, documents: list[Document], unchanged: UnchangedRows, summarizer: Summarizer) -> pa.Table:
        """Return a row for each document, in their order: the one that is known, or a new one."""
        kept = unchanged.rows_of(documents)
        fresh = [document for document, row in zip(documents, kept, strict=True) if row is None]
        made = iter(summarizer.rows(fresh))
        rows = [next(made) if row is None else row for row in kept]
        with self._lock:
            self._tally.num_computed += len(fresh)
            self._tally.num_kept += len(documents) - len(fresh)
        return pa.Table.from_pylist(rows, SUMMARY_SCHEMA)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) >= DOCUMENTS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
