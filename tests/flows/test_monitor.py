"""`sbert monitor` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.monitor import monitor_opinion
from sbert.apply.monitoring.settings import MonitoringSettings
from tests.sbert.apply.monitoring.test_monitor import CALM, classify, hours
from tests.support.made_tables import make_version

SETTINGS = {"min_volume": 10, "min_history": 3, "text_column": "kind"}


@pytest.fixture
def predictions(tmp_path: Path) -> str:
    table = str(tmp_path / "table")
    make_version(table, {"a": hours([*CALM, 0.9])})
    classify(table, tmp_path / "classes")
    return str(tmp_path / "classes")


def test_the_command_prints_the_keys_that_scripts_rely_on(tmp_path: Path, predictions: str) -> None:
    arguments = ["monitor", predictions, str(tmp_path / "out"), "--time-column", "at", "--bucket", "1h"]
    arguments += ["--settings", json.dumps(SETTINGS)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [alert["series"] for alert in report["new_alerts"]] == ["bad"]
    again = CliRunner().invoke(app, arguments)
    assert "1 alerts open, 1 in all" in again.stdout
    assert "new:" not in again.stdout
    wrong = CliRunner().invoke(app, [*arguments[:-1], '{"bucket": "soon"}'])
    assert wrong.exit_code == 0  # the option wins over the setting of the same name


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_emits_an_event_for_each_new_alert(
    tmp_path: Path, predictions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = []
    monkeypatch.setattr("tasks.monitor.emit_event", lambda **event: emitted.append(event))
    settings = MonitoringSettings.model_validate({"time_column": "at", "bucket": "1h", **SETTINGS})
    report = monitor_opinion(predictions, str(tmp_path / "out"), settings)
    assert [event["event"] for event in emitted] == ["sbert.opinion.alert"]
    assert emitted[0]["payload"]["sentence"] == report.alerts[0].sentence
    assert monitor_opinion(predictions, str(tmp_path / "out"), settings).new_alerts == []
    assert len(emitted) == 1
