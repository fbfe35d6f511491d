"""A refresh tells followers of its table that there is a new version, and only then."""

from pathlib import Path
from typing import Any

import pytest

from flows.refresh import refresh_embeddings
from tasks import announce_version
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_an_event_names_each_new_version_and_none_is_sent_without_one(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(announce_version, "emit_event", lambda **event: events.append(event))
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "a.jsonl", rows(0, 5))
    for _ in range(2):
        refresh_embeddings(raw_uri=str(raw), table_uri=table, model=model)
    write(raw / "b.jsonl", rows(5, 3))
    refresh_embeddings(raw_uri=str(raw), table_uri=table)
    assert [event["event"] for event in events] == ["sbert.table.published"] * 2
    assert [event["payload"]["version"] for event in events] == [0, 1]
    assert [event["payload"]["num_rows"] for event in events] == [5, 8]
    assert {event["resource"]["prefect.resource.id"] for event in events} == {f"sbert.table.{table}"}


def test_a_dry_run_sends_no_event(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce_version, "emit_event", lambda **_: pytest.fail("an event was sent"))
    write(tmp_path / "raw" / "a.jsonl", rows(0, 5))
    refresh_embeddings(raw_uri=str(tmp_path / "raw"), table_uri=str(tmp_path / "table"), model=model, dry_run=True)
