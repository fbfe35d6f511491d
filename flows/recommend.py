"""Keep the items for each user up to date.

Run it with ``sbert recommend ITEMS_TABLE EVENTS OUT``, or as a deployment that follows each published version of the items
and runs at fixed times for new events.
"""

from typing import Annotated

from prefect import flow

from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import (
    ANY_JSON,
    Concurrency,
    Explain,
    Text,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.recommendation.run import RecommendationReport
from sbert.apply.recommendation.settings import RecommendationSettings
from tasks.recommend import make_lists, report_lists

__all__ = ["recommend_items"]


@flow(name="recommend-items", flow_run_name=named_after("recommend {items_uri}"), persist_result=False, **HOOKS)
def recommend_items(
    items_uri: Annotated[
        str,
        location(
            title="Items",
            description="Folder of the embeddings table of the items, local or s3://. "
            "Example: s3://company-embeddings/articles",
        ),
    ],
    events_uri: Annotated[
        str,
        location(
            title="Events",
            description="File or folder of events (user, item, type, time), local or s3://. "
            "Example: s3://company-raw/clicks",
        ),
    ],
    out_uri: OutUri,
    settings: Annotated[
        RecommendationSettings,
        read_advanced(RecommendationSettings),
        ANY_JSON,
        advanced_form("recommend", '{"lists": {"k": 10}}'),
    ] = RecommendationSettings(),  # noqa: B008  (frozen)
    pairs_uri: Annotated[
        Text,
        location(
            title="Labels",
            may_be_empty=True,
            description="Folder of labels that pairs of items of one session are added to, for retraining. Empty: none. "
            "Example: s3://company-labels/sessions",
        ),
    ] = None,
    concurrency: Concurrency = 1,
    explain: Explain = False,
) -> RecommendationReport:
    """Write the items for each user to a derived table; make only the lists that changed.

    Returns:
        What was done, in numbers.
    """
    report = make_lists(items_uri, events_uri, out_uri, settings, pairs_uri, concurrency, explain)
    report_lists(report)
    return completed(report, report.summary())


make_form(recommend_items)
