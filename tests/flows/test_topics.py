"""`sbert topics` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import topics as flow_module
from flows.cli.commands import app
from flows.topics import find_table_topics
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_texts import make_text_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    table = str(tmp_path / "table")
    rows = [(str(n), f"the {'card' if n % 2 else 'rate'} {n}", [n % 2, 1 - n % 2, 0.01 * n]) for n in range(40)]
    make_text_version(table, {"a": rows})
    return table, str(tmp_path / "out")


def test_the_command_prints_the_topics_with_their_words(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["topics", *places, "-n", "2"])
    assert done.exit_code == 0, done.output
    assert "2 topics" in done.output
    assert "fitted in this run: first run" in done.output
    assert "rows  card" in done.output
    report = json.loads(CliRunner().invoke(app, ["topics", *places, "-n", "2", "--json"]).stdout)
    assert report["num_topics"] == 2
    assert report["num_rows_built"] == 0
    assert report["refitted"] == ""


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_announces_each_new_topic(places: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(
        flow_module, "emit_event", lambda **event: events.append(event["resource"]["prefect.resource.id"])
    )
    report = find_table_topics(*places, num_topics=2)
    assert outcome_of_newest_run() == "Version 0: 40 rows, 40 computed; 2 topics, 0 new, 0 ended"
    assert report.num_topics == 2
    assert report.num_rows_built == 40
    assert events == []
    flow_module.announce_new_topics(report.model_copy(update={"new_topics": (1,)}))
    assert events == [f"sbert.topic.{report.out_uri}.1"]
