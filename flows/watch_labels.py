"""Check whether new labels have arrived, and announce each new set once.

Reads as: find news, hand over, remember. Run every few minutes as a deployment; the event starts the retraining.
"""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.hooks import HOOKS
from flows.parameters import form, location
from flows.run_names import named_after
from sbert.counted import counted
from sbert.labels.watch import LabelNews, find_news, record_handed_over
from tasks.events import hand_over_event

__all__ = ["LABELS_ARRIVED", "watch_labels"]

LABELS_ARRIVED = "sbert.labels.arrived"


@flow(name="watch-labels", flow_run_name=named_after("look at {labels_uri}"), persist_result=False, **HOOKS)
def watch_labels(
    labels_uri: Annotated[
        str,
        location(
            title="Labels",
            description="Folder or glob of labels, local or s3://. Example: s3://company-labels/tickets",
        ),
    ],
    models_uri: Annotated[
        str,
        location(
            title="Models",
            description="Folder of the model registry; what was handed over is noted there. "
            "Example: s3://company-embeddings/models",
        ),
    ],
    min_new_rows: Annotated[
        int,
        form(
            title="Least new rows",
            ge=1,
            le=10_000_000,
            description="Least number of new labels that are announced (rows).",
        ),
    ] = 100,
) -> State[LabelNews]:
    """Emit ``sbert.labels.arrived`` when enough labels are new; the same set is told once."""
    news = find_news(labels_uri, models_uri)
    if news.num_new_rows < min_new_rows:
        told = (
            "nothing new" if not news.num_new_rows else f"waiting for more than {counted(news.num_new_rows, 'new row')}"
        )
        return Completed(message=f"{told}; {counted(news.num_objects, 'object')} of labels", data=news)
    hand_over_event(
        LABELS_ARRIVED,
        resource_id=f"sbert.labels.{news.labels_uri}",
        payload={"labels_uri": labels_uri, "models_uri": models_uri, "num_new_rows": news.num_new_rows},
        event_id=news.event_id,
    )
    record_handed_over(news, models_uri)
    return Completed(message=f"{counted(news.num_new_rows, 'new row')} handed over", data=news)
