"""What a run tells the server when it has ended."""

import time
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed

from flows import hooks


@pytest.mark.parametrize(("is_deployed", "num_events"), [(True, 2), (False, 1)])
def test_the_end_is_told_again_after_a_heartbeat_of_the_same_moment(
    is_deployed: bool, num_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server handled the heartbeat of a short run after the end of the run, and tried to crash it 90 seconds later."""
    told: list[tuple[float, str, dict[str, str]]] = []

    def emit(event: str, resource: dict[str, str]) -> None:
        told.append((time.monotonic(), event, resource))

    monkeypatch.setattr(hooks, "emit_event", emit)
    run: Any = FlowRun(flow_id=uuid4(), deployment_id=uuid4() if is_deployed else None)
    hooks.tell_end(None, run, Completed())
    assert len(told) == num_events
    for _, event, resource in told:
        assert event == hooks.FLOW_RUN_ENDED
        assert resource == {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
    assert told[-1][0] - told[0][0] >= (num_events - 1) * hooks.ENDED_AGAIN_SECONDS
