"""Keep the topics of a table up to date, and announce new ones.

Run it with ``sbert topics TABLE OUT``, or as a deployment that follows each published version. Each new topic becomes the
event ``sbert.topic.appeared``.
"""

from functools import partial
from typing import Annotated, Literal

from prefect import flow
from prefect.events import emit_event

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import Concurrency, EngineChoice, ExistingTableUri, Text, completed, form, make_form
from flows.run_names import named_after
from sbert.apply.topics.report import TopicsReport
from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings

__all__ = ["TOPIC_APPEARED", "find_table_topics"]

TOPIC_APPEARED = "sbert.topic.appeared"


@flow(name="find-topics", flow_run_name=named_after("topics {table_uri}"), persist_result=False, **HOOKS)
def find_table_topics(
    table_uri: ExistingTableUri,
    out_uri: OutUri,
    num_topics: Annotated[
        int | None,
        form(
            title="Topics",
            ge=1,
            le=2_000,
            description="Number of topics to look for. Empty: computed from the number of rows. Example: 50",
        ),
    ] = None,
    text_column: Annotated[
        Text,
        form(title="Text column", description="Kept column that holds the text. Empty: the encoded one. Example: body"),
    ] = None,
    time_column: Annotated[
        Text,
        form(
            title="Time column",
            description="Kept column with the time of each row. Empty: no counts over time. Example: created_at",
        ),
    ] = None,
    period: Annotated[
        Literal["day", "week", "month"], form(title="Period", description="Length of a period of these counts.")
    ] = "week",
    refit: Annotated[
        bool, form(title="Fit anew", description="Fit the topics anew; topics that stay keep their numbers.")
    ] = False,
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
) -> TopicsReport:
    """Write the topic of every row to a derived table; topics keep their numbers from run to run.

    Returns:
        What was done, in numbers, and the topics.
    """
    settings = TopicSettings(
        fit=FitSettings(num_topics=num_topics or None),
        text_column=text_column or None,
        time_column=time_column or None,
        period=period,
        refit=refit,
    )
    report = find_topics(
        table_uri, out_uri, settings, run_job=partial(run_derivation, concurrency=concurrency, engine=engine)
    )
    announce_new_topics(report)
    return completed(report, report.summary())


make_form(find_table_topics)


def announce_new_topics(report: TopicsReport) -> None:
    """Emit an event for each topic that was not there before."""
    for topic in report.topics:
        if topic.topic in report.new_topics:
            emit_event(
                event=TOPIC_APPEARED,
                resource={
                    "prefect.resource.id": f"sbert.topic.{report.out_uri}.{topic.topic}",
                    "prefect.resource.name": ", ".join(topic.words[:3]) or f"topic {topic.topic}",
                },
                payload={"table_uri": report.table_uri, "out_uri": report.out_uri, **topic.model_dump(mode="json")},
            )
