"""Keep the summaries of a table's documents up to date.

Run it with ``sbert summarize TABLE OUT``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import (
    ANY_JSON,
    Concurrency,
    ExistingTableUri,
    Text,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.summaries.run import SummaryReport
from sbert.apply.summaries.settings import SummarySettings
from tasks.derive import report_derived
from tasks.summarize import choose_summary_ranker, report_summaries, write_document_summaries

__all__ = ["summarize_documents"]


@flow(name="summarize-documents", flow_run_name=named_after("summaries of {table_uri}"), persist_result=False, **HOOKS)
def summarize_documents(
    table_uri: ExistingTableUri,
    out_uri: OutUri,
    labels_uri: Annotated[
        Text,
        location(
            title="Labels",
            may_be_empty=True,
            description="File, folder or glob of documents and their summaries, local or s3://. Empty: no labels, LexRank. "
            "Example: s3://company-labels/summaries",
        ),
    ] = None,
    settings: Annotated[
        SummarySettings,
        read_advanced(SummarySettings),
        ANY_JSON,
        advanced_form("summarize", '{"budget": {"max_words": 60}}'),
    ] = SummarySettings(),  # noqa: B008  (frozen)
    concurrency: Concurrency = 1,
) -> SummaryReport:
    """Choose the ranking method, summarise every document whose passages changed, and report.

    Returns:
        What was done, in numbers.
    """
    decision = choose_summary_ranker(table_uri, out_uri, labels_uri, settings)
    report = write_document_summaries(table_uri, out_uri, decision, settings, concurrency)
    report_derived(report.output)
    report_summaries(report)
    return completed(report, report.summary())


make_form(summarize_documents)
