"""Bring the summaries of a table's documents up to date: choose the ranking method, summarise changed documents, report.

>>> from sbert.apply.summaries.run import summarize
>>> report = summarize("data/table", "data/summaries")  # doctest: +SKIP
"""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.summaries.choose import RankerDecision, choose_ranker
from sbert.apply.summaries.documents import DocumentReader
from sbert.apply.summaries.job import SummaryJob
from sbert.apply.summaries.settings import SummarySettings
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable, find_output
from sbert.derived.part_table import derive_parts
from sbert.derived.run import DerivedReport
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["SummaryReport", "decide_ranker", "summarize", "write_summaries"]


class SummaryReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    output: DerivedReport = Field(description="Report of the derived table.")
    decision: RankerDecision = Field(description="The ranker that was used, or LexRank.")
    num_documents: int
    num_computed: int = Field(description="Documents that were ranked in this run.")
    num_without_text: int = Field(description="Documents without a sentence; their summary is null.")
    num_cut: int = Field(description="Documents with more sentences than are ranked.")
    num_whole: int = Field(description="Documents whose summary is all their sentences.")
    mean_words: float = Field(description="Words of a summary, on average.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        return (
            f"Version {self.output.version}: {counted(self.num_documents, 'document')}, {self.num_computed:,} computed"
        )


def summarize(
    table_uri: str,
    out_uri: str,
    settings: SummarySettings | None = None,
    *,
    labels_uri: str | None = None,
    concurrency: int = 1,
) -> SummaryReport:
    """Summarise every document of a table; compute only changed documents.

    Args:
        table_uri: an embeddings table of passages, or one whose rows are whole documents; it keeps the text.
        out_uri: the derived table, one row for each document; made if it is not there.
        settings: budget, and how labels are read and learned from.
        labels_uri: summaries that people wrote: file, folder or glob; None for none.
        concurrency: splits that are summarised at the same time.

    Raises:
        ColumnError: the table keeps no text, or the labels lack a column.
        LabelError, BrokenObjectError: the labels cannot be read or learned from.
        ModelError, EncoderMismatchError: the table's encoder cannot be loaded.
        SettingsError, TableError: as `derive_parts`; the output is as it was.
    """
    settings = settings or SummarySettings()
    decision = decide_ranker(table_uri, out_uri, labels_uri, settings)
    return write_summaries(table_uri, out_uri, decision, settings, concurrency=concurrency)


def decide_ranker(table_uri: str, out_uri: str, labels_uri: str | None, settings: SummarySettings) -> RankerDecision:
    """Choose the ranking method. Check table and output before anything is written.

    Raises:
        ColumnError, NotATableError, TableError: the table keeps no text, or the output belongs to another job.
        LabelError and others: as `choose_ranker`.
    """
    table = Table.open(table_uri)
    DocumentReader(table)
    find_output(out_uri, SummaryJob.name)
    return choose_ranker(table, labels_uri, out_uri, settings)


def write_summaries(
    table_uri: str, out_uri: str, decision: RankerDecision, settings: SummarySettings, *, concurrency: int = 1
) -> SummaryReport:
    """Write the summaries by the chosen ranker, and count the rows of the output.

    Raises:
        SettingsError, TableError, ModelError: as `summarize`.
    """
    job = SummaryJob(
        budget=settings.budget,
        max_ranked_sentences=settings.max_ranked_sentences,
        ranker=decision.ranker,
        ranker_uri=normalize_uri(out_uri) if decision.ranker else "",
    )
    output = derive_parts(job, table_uri, out_uri, concurrency=concurrency)
    sentences = pl.col("sentences")
    num_chosen = sentences.list.eval(pl.element().struct.field("chosen")).list.sum()
    counts = (
        DerivedTable.open(output.out_uri, output.version)
        .scan()
        .select(
            num_documents=pl.len(),
            num_without_text=pl.col("summary").null_count(),
            num_cut=(sentences.list.len() < pl.col("num_sentences")).sum(),
            num_whole=((num_chosen == pl.col("num_sentences")) & (pl.col("num_sentences") > 0)).sum(),
            mean_words=pl.col("num_words").filter(pl.col("summary").is_not_null()).mean().fill_null(0.0),
        )
        .collect()
        .row(0, named=True)
    )
    return SummaryReport(output=output, decision=decision, num_computed=job.tally.num_computed, **counts)
