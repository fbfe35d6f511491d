"""Keep the index of a table up to date.

Run it with ``sbert index TABLE``, or as a deployment that follows each published version.
"""

import uuid
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.parameters import ANY_JSON, ExistingTableUri, advanced_form, completed, form, make_form, read_advanced
from flows.run_names import named_after
from sbert.index.index_run import IndexReport
from sbert.index.index_settings import IndexSettings
from tasks.index import build_index, report_index

__all__ = ["index_embeddings"]


@flow(name="index-embeddings", flow_run_name=named_after("index {table_uri}"), persist_result=False, **HOOKS)
def index_embeddings(
    table_uri: ExistingTableUri,
    check: Annotated[
        bool, form(title="Check", description="Read every byte of the index, and build damaged segments again.")
    ] = False,
    settings: Annotated[
        IndexSettings,
        read_advanced(IndexSettings),
        ANY_JSON,
        advanced_form("index", '{"min_recall": 0.9}'),
    ] = IndexSettings(),  # noqa: B008  (frozen)
) -> IndexReport:
    """Build the segments that the newest version lacks, merge small ones, and measure the recall.

    Returns:
        What was done, in numbers.

    Raises:
        QualityError: the recall stays below the least that the settings accept.
    """
    run_id = str(flow_run.get_id() or uuid.uuid4())
    report = build_index(table_uri, settings, check, run_id)
    report_index(report)
    return completed(report, report.summary())


make_form(index_embeddings)
