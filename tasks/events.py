"""Send events to the Prefect server, and wait until it has stored them."""

import time
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event

from sbert.errors import EventError

__all__ = ["emit_confirmed", "hand_over_event"]

CONFIRM_SECONDS = 60
POLL_SECONDS = 0.5
REPEAT_SECONDS = 10.0
"""Time between two attempts to emit an event that the server has not stored (seconds)."""


@task(name="hand over event", task_run_name="hand over {event}", cache_policy=NO_CACHE)
def hand_over_event(event: str, resource_id: str, payload: dict[str, Any], event_id: UUID) -> None:
    """Emit an event and wait until the server has stored it.

    Raises:
        EventError: the server has not stored it in time.
    """
    emit_confirmed(event, {"prefect.resource.id": resource_id}, payload, event_id)


def emit_confirmed(event: str, resource: dict[str, str], payload: dict[str, Any], event_id: UUID) -> None:
    """Emit an event until the server has stored it; the server keeps one event of an id.

    Prefect sends events without waiting for an answer, so one can be lost while the server restarts or its database is
    locked.

    Raises:
        EventError: the server has not stored it in time.
    """
    deadline = time.monotonic() + CONFIRM_SECONDS
    emit_again = time.monotonic()
    while True:
        if time.monotonic() >= emit_again:
            emit_event(event=event, resource=resource, payload=payload, id=event_id)
            emit_again = time.monotonic() + REPEAT_SECONDS
        if _is_stored(event_id):
            return
        if time.monotonic() > deadline:
            raise EventError(
                f"{event}: the Prefect server has not stored the event within {CONFIRM_SECONDS} s: check that the server is "
                "up and run the job again, or start the deployment that follows this event by hand"
            )
        time.sleep(POLL_SECONDS)


def _is_stored(event_id: UUID) -> bool:
    with get_client(sync_client=True) as client:
        response = client.request(
            "POST", "/events/filter", json={"filter": {"id": {"id": [str(event_id)]}}, "limit": 1}
        )
    return bool(response.json()["events"])
