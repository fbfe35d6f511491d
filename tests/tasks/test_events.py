"""Events that something depends on are emitted until the server has stored them."""

import uuid
from typing import Any

import pytest

from sbert.errors import EventError
from tasks import events


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    monkeypatch.setattr(events, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(events, "REPEAT_SECONDS", 0.01)
    return sent


def test_an_event_that_was_lost_is_emitted_again_under_the_same_id(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_is_stored", lambda _: len(emitted) == 3)
    number = uuid.uuid4()
    events.emit_confirmed("sbert.model.promoted", {"prefect.resource.id": "r"}, {"a": 1}, number)
    assert [event["id"] for event in emitted] == [number] * 3


def test_an_event_that_is_never_stored_is_an_error_that_says_what_to_do(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_is_stored", lambda _: False)
    monkeypatch.setattr(events, "CONFIRM_SECONDS", 0.05)
    with pytest.raises(EventError, match=r"has not stored the event within 0\.05 s: check that the server is up"):
        events.emit_confirmed("sbert.model.promoted", {"prefect.resource.id": "r"}, {}, uuid.uuid4())
    assert len(emitted) > 1


def test_an_event_that_is_stored_at_once_is_emitted_once(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_is_stored", lambda _: bool(emitted))
    events.emit_confirmed("sbert.labels.arrived", {"prefect.resource.id": "r"}, {}, uuid.uuid4())
    assert len(emitted) == 1
