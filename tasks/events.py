"""Tell the Prefect server what happened, and make sure that it heard."""

import time
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event

from sbert.errors import EventError

__all__ = ["hand_over_event"]

CONFIRM_SECONDS = 60
POLL_SECONDS = 0.5


@task(name="hand over event", task_run_name="hand over {event}", cache_policy=NO_CACHE)
def hand_over_event(event: str, resource_id: str, payload: dict[str, Any], event_id: UUID) -> None:
    """Emit an event and wait until the server has stored it.

    Raises:
        EventError: when the server has not stored it in time.
    """
    emit_event(event=event, resource={"prefect.resource.id": resource_id}, payload=payload, id=event_id)
    deadline = time.monotonic() + CONFIRM_SECONDS
    while not _is_stored(event_id):
        if time.monotonic() > deadline:
            raise EventError(
                f"{event}: the Prefect server has not stored the event within {CONFIRM_SECONDS} s; it counts as not handed "
                "over and is sent again next time: is the server up, and are its events enabled?"
            )
        time.sleep(POLL_SECONDS)


def _is_stored(event_id: UUID) -> bool:
    with get_client(sync_client=True) as client:
        response = client.request(
            "POST", "/events/filter", json={"filter": {"id": {"id": [str(event_id)]}}, "limit": 1}
        )
    return bool(response.json()["events"])
