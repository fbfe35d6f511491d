"""Bring the index of a table up to date: plan, build missing segments, publish, merge, measure.

>>> from sbert.index.index_run import index_table
>>> report = index_table("data/table")  # doctest: +SKIP

Segments are named after their splits, so nothing records how far a run got: a killed run is resumed by running again. A
segment serves searches as soon as its record is written.
"""

import logging
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import QualityError
from sbert.index.index_plan import Group, IndexPlan, plan_index, plan_merges
from sbert.index.index_settings import IndexSettings
from sbert.index.queries import QueryEncoder
from sbert.index.recall import NEIGHBOURS, measure_recall, sample_positions
from sbert.index.segment import num_proposed
from sbert.index.segment_build import build_segment, probes_to_try
from sbert.index.segment_search import IndexView
from sbert.index.split_places import SplitPlaces
from sbert.index.top_k import NO_ROW, Int64, TopK, in_order
from sbert.index.version_rows import VersionRows
from sbert.table.delta import Table
from sbert.table.lease import hold_lease
from sbert.table.segment_check import segment_problem
from sbert.table.vector_segments import (
    MeasuredRecall,
    SegmentRecord,
    VersionIndex,
    find_version_index,
    read_segments,
    remove_beside_segments,
    remove_segment,
    segment_name,
    write_version_index,
)
from sbert.vectors.precision import Float32

__all__ = ["IndexReport", "drop_index", "index_table"]

Sample = tuple[Int64, Float32, tuple[Float32, Int64]]
"""Queries: the number of the row that each is, their vectors, and scores and numbers of their best rows by exact search."""

log = logging.getLogger(__name__)


class IndexReport(BaseModel):
    """Results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="Version of the table that was indexed.")
    num_segments: int = Field(description="Segments that serve the version.")
    num_segments_built: int
    num_segments_merged: int = Field(description="Segments that were made by merging others.")
    num_segments_broken: int = Field(description="Broken segments that were removed and built again.")
    num_segments_refused: int = Field(description="Segments whose recall stayed too low.")
    num_rows: int = Field(description="Rows of the version.")
    num_rows_indexed: int = Field(description="Rows that a segment holds; the others are searched exactly.")
    num_rows_built: int = Field(description="Rows that this run put into segments, merging included.")
    recall_at_10: float | None = Field(description="Of the whole index, with rows of the table as queries (0 to 1).")
    recall: MeasuredRecall | None = Field(description="The same with its interval.")
    labelled_recall: MeasuredRecall | None = Field(description="With the given queries.")
    probes: int = Field(description="Lists that a query looks into in each segment.")
    refused: tuple[str, ...] = Field(description="Why segments were refused.")
    seconds: float
    seconds_up_to_date: float = Field(
        description="Seconds until every row had a segment, before merging and measuring."
    )

    def summary(self) -> str:
        """Return the outcome in one line."""
        recall = "recall@10 not measured" if self.recall_at_10 is None else f"recall@10 {self.recall_at_10:.3f}"
        indexed = f"{self.num_rows_indexed:,} of {counted(self.num_rows, 'row')}"
        return f"Version {self.version} of the table: {indexed} in {counted(self.num_segments, 'segment')}, {recall}"


def index_table(
    table_uri: str,
    *,
    settings: IndexSettings | None = None,
    queries: Iterable[str] | None = None,
    check: bool = False,
    run_id: str | None = None,
) -> IndexReport:
    """Bring the index of a table's newest version up to date.

    Args:
        table_uri: the table.
        settings: how it is indexed.
        queries: texts whose recall is measured too.
        check: read every byte of the segments that are there, and build damaged ones again.
        run_id: name of the run; by default a new one.

    Raises:
        QualityError: the recall of segments, or of the whole, stays below `min_recall`; all other segments are published.
        NotATableError, StorageError, TableError: the table cannot be read, or storage refuses.
    """
    asked = settings or IndexSettings()
    table = Table.open(table_uri)
    run = run_id or str(uuid.uuid4())
    with hold_lease(table.uri, run, "index"):
        return _Run(table, asked, run).work(queries, check=check)


def drop_index(table_uri: str) -> int:
    """Remove every segment of a table and its measurements; return the number of segments. Searches are exact afterwards."""
    table = Table.open(table_uri)
    records, broken = read_segments(table.uri)
    names = [record.name for record in records] + broken
    for name in names:
        remove_segment(table.uri, name)
    remove_beside_segments(table.uri)
    return len(names)


class _Run:
    """One run on one version."""

    def __init__(self, table: Table, settings: IndexSettings, run_id: str) -> None:
        self._table = table
        self._settings = settings
        self._run_id = run_id
        self._rows = VersionRows(table)
        self._places = SplitPlaces(self._rows)
        self._refused: dict[str, str] = {}
        self._num_rows_built = 0

    def work(self, queries: Iterable[str] | None, *, check: bool) -> IndexReport:
        began = time.monotonic()
        num_broken = self._remove_broken(check=check)
        plan = self._plan()
        built = self._build(plan.build)
        up_to_date = time.monotonic() - began
        merged = self._merge()
        view = IndexView(self._rows, even_refused=True)
        measured = find_version_index(self._table.uri, self._table.version)
        serving = tuple(part.serving.record.name for part in view.segments)
        before = measured if measured is not None and measured.segments == serving else None
        if (
            before is None
            or queries is not None
            or before.is_refused
            or self._is_too_low(before.recall, before.labelled_recall)
        ):
            measured = self._measure(view, list(queries or []), before)
        else:
            measured = before
        report = IndexReport(
            table_uri=self._table.uri,
            version=self._table.version,
            num_segments=len(view.segments),
            num_segments_built=len(built),
            num_segments_merged=len(merged),
            num_segments_broken=num_broken,
            num_segments_refused=len(self._refused),
            num_rows=len(self._rows),
            num_rows_indexed=sum(part.serving.num_rows for part in view.segments),
            num_rows_built=self._num_rows_built,
            recall_at_10=None if measured.recall is None else measured.recall.value,
            recall=measured.recall,
            labelled_recall=measured.labelled_recall,
            probes=measured.probes,
            refused=tuple(self._refused.values()),
            seconds=round(time.monotonic() - began, 3),
            seconds_up_to_date=round(up_to_date, 3),
        )
        self._check_recall(report, measured)
        return report

    def _plan(self) -> IndexPlan:
        records, _ = read_segments(self._table.uri)
        return plan_index(records, self._places, self._table.encoder.fingerprint, self._settings)

    def _remove_broken(self, *, check: bool) -> int:
        """Remove segments that cannot serve, so that they are built again; return their number."""
        records, broken = read_segments(self._table.uri)
        for record in records if check else ():
            problem = segment_problem(self._table.uri, record)
            if problem is not None:
                log.warning("%s", problem)
                broken.append(record.name)
        for name in broken:
            log.warning("%s: the broken segment %s is removed and built again", self._table.uri, name)
            remove_segment(self._table.uri, name)
        return len(broken)

    def _build(self, groups: Iterable[Group]) -> list[SegmentRecord]:
        """Build segments, several at the same time; a refused one is noted."""

        def build(group: Group) -> SegmentRecord | None:
            try:
                return build_segment(self._rows, self._places, group, self._settings, self._run_id)
            except QualityError as error:
                name = segment_name(group, self._table.encoder.fingerprint, self._settings.segment_hash())
                self._refused[name] = str(error)
                return None

        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="index") as pool:
            records = [record for record in pool.map(build, groups) if record is not None]
        self._num_rows_built += sum(record.num_rows for record in records)
        return records

    def _merge(self) -> list[SegmentRecord]:
        """Merge segments of about one size, and go on while the merged segments can be merged too."""
        merged: list[SegmentRecord] = []
        while merges := plan_merges(self._plan().keep, self._settings):
            made = self._build(merges)
            if not made:
                break
            merged += made
        return merged

    def _is_too_low(self, *recalls: MeasuredRecall | None) -> bool:
        return any(recall is not None and recall.value < self._settings.min_recall for recall in recalls)

    def _measure(self, view: IndexView, queries: list[str], before: VersionIndex | None) -> VersionIndex:
        """Measure the recall of the whole index. While it is too low, look into more lists. Record the outcome.

        Args:
            view: the segments.
            queries: texts that are searched too. Without them, their earlier recall stays.
            before: what was measured with the same segments.
        """
        own, vectors_QD = self._own_rows(view)
        samples = [(own, vectors_QD, self._exact(view, vectors_QD))] if len(own) else []
        if queries:
            encoded = QueryEncoder(self._table).encode_queries(queries).vectors_QD
            samples.append((np.full(len(encoded), NO_ROW, np.int64), encoded, self._exact(view, encoded)))
        probes, recalls = self._tune(view, samples)
        recall = recalls[0] if len(own) else None
        earlier = None if before is None else before.labelled_recall
        labelled_recall = recalls[-1] if queries else earlier
        measured = VersionIndex(
            version=self._table.version,
            segments=tuple(part.serving.record.name for part in view.segments),
            probes=probes,
            recall=recall,
            labelled_recall=labelled_recall,
            is_refused=self._is_too_low(recall, labelled_recall),
        )
        write_version_index(self._table.uri, measured)
        return measured

    def _own_rows(self, view: IndexView) -> tuple[Int64, Float32]:
        """Return the numbers and vectors of some rows of the version."""
        own = sample_positions(len(self._rows), self._settings.recall_queries)
        vectors_QD = np.zeros((len(own), self._table.encoder.dim), np.float32)
        for block in view.vectors_at(own):
            vectors_QD[np.searchsorted(own, block.numbers_N)] = block.vectors_ND
        return own, vectors_QD

    def _tune(self, view: IndexView, samples: list[Sample]) -> tuple[int, list[MeasuredRecall]]:
        """Return the lists a query, and the recall of each sample of queries; more lists while one recall is too low."""
        more = (value for value in probes_to_try(self._settings.max_probes) if value > view.probes)
        for probes in (view.probes, *more):
            recalls = [self._recall(view, *sample, probes) for sample in samples]
            if not self._is_too_low(*recalls):
                break
        return probes, recalls

    def _exact(self, view: IndexView, vectors_QD: Float32) -> tuple[Float32, Int64]:
        best = TopK(vectors_QD, NEIGHBOURS + 1)
        for block in view.vectors():
            best.add(block.vectors_ND, block.numbers_N)
        return in_order(best.scores_QK, best.numbers_QK)

    def _recall(
        self, view: IndexView, own: Int64, vectors_QD: Float32, exact: tuple[Float32, Int64], probes: int
    ) -> MeasuredRecall:
        best = TopK(vectors_QD, NEIGHBOURS + 1)
        view.search(best, vectors_QD, num_proposed(NEIGHBOURS + 1), probes=probes)
        return measure_recall(own, exact, in_order(best.scores_QK, best.numbers_QK))

    def _check_recall(self, report: IndexReport, measured: VersionIndex) -> None:
        """Raise `QualityError` if a segment, or the whole index, has a recall that is too low."""
        if report.refused:
            raise QualityError("; ".join(report.refused))
        if measured.is_refused:
            values = [recall.value for recall in (measured.recall, measured.labelled_recall) if recall is not None]
            raise QualityError(
                f"{report.table_uri}: recall@10 of the whole index is {min(values):.3f}, min_recall is "
                f"{self._settings.min_recall}: searches are exact until it is higher; run again with a larger max_probes "
                f"({self._settings.max_probes}) where segments have more lists, or a smaller min_recall"
            )
