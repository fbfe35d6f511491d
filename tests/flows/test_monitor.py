"""`sbert monitor` and its flow."""

import json
import threading
from pathlib import Path

import pytest
from prefect.flow_runs import resume_flow_run
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.monitor import monitor_opinion
from sbert.apply.monitoring.report import MonitoringReport, WithdrawalReason, WithdrawnAlert
from sbert.apply.monitoring.settings import MonitoringSettings
from tasks.monitor import report_opinion
from tests.flows.test_approval import paused_run
from tests.sbert.apply.monitoring.test_monitor import CALM, classify, hours
from tests.support.flow_runs import outcome_of_newest_run
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
    assert report["new_alerts"][0]["level"] > report["new_alerts"][0]["p_value"]
    assert "1 alert open, 1 in all" in again.stdout
    assert "new:" not in again.stdout
    make_version(str(tmp_path / "table"), {"a": hours(CALM)})
    classify(str(tmp_path / "table"), tmp_path / "classes")
    gone = CliRunner().invoke(app, arguments)
    reason = "rows of this topic were deleted, changed or added"
    assert f"withdrawn, because {reason}: {report['new_alerts'][0]['sentence']}" in " ".join(gone.stdout.split())
    assert "0 alerts open, 0 in all" in gone.stdout
    assert "withdrawn" not in CliRunner().invoke(app, arguments).stdout
    wrong = CliRunner().invoke(app, [*arguments[:-1], '{"bucket": "soon"}'])
    assert wrong.exit_code == 0  # the option wins over the setting of the same name


@pytest.mark.usefixtures("prefect_server")
def test_the_column_of_time_may_stand_in_the_settings(tmp_path: Path, predictions: str) -> None:
    settings = tmp_path / "monitor.json"
    settings.write_text(json.dumps({"time_column": "at"}))
    command = ["monitor", predictions, str(tmp_path / "opinion"), "--json"]
    done = CliRunner().invoke(app, [*command, "--settings", f"@{settings}"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["num_rows"] > 0
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "'--time-column': name the column that says when a row was written" in refused.output
    lacking = CliRunner().invoke(app, [*command, "--settings", '{"bucket": "1d"}'])
    assert lacking.exit_code == 1
    assert "time_column" in json.loads(lacking.stdout)["error"]["message"]


def test_the_flow_emits_an_event_for_each_new_alert(
    tmp_path: Path, predictions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = []
    monkeypatch.setattr("tasks.monitor.emit_event", lambda **event: emitted.append(event))
    settings = MonitoringSettings.model_validate({"time_column": "at", "bucket": "1h", **SETTINGS})
    report = monitor_opinion(predictions, str(tmp_path / "out"), settings)
    assert outcome_of_newest_run() == "Version 0: 220 rows, 1 open alert, 1 new"
    assert [event["event"] for event in emitted] == ["sbert.opinion.alert"]
    assert emitted[0]["payload"]["sentence"] == report.alerts[0].sentence
    assert monitor_opinion(predictions, str(tmp_path / "out"), settings).new_alerts == []
    assert len(emitted) == 1


def test_the_artifact_counts_all_withdrawn_alerts_and_names_some(monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts: list[str] = []
    monkeypatch.setattr("tasks.monitor.create_markdown_artifact", lambda **given: artifacts.append(given["markdown"]))
    gone = [WithdrawnAlert(sentence=f"sentence {number};", reason=WithdrawalReason.ROWS) for number in range(60)]
    report = MonitoringReport(
        predictions_uri="p", out_uri="o", version=1, num_rows=1, num_without_time=0, num_in_future=0, num_topics=1, num_cells=1,
        first_bucket=None, last_bucket=None, num_open=0, alerts=[], new_alerts=[], withdrawn_alerts=gone,
        num_withdrawn_with_topic=7, is_new_model=False, gone_with_model=[], found_with_model=[], page_uri="x",
    )  # fmt: skip
    report_opinion.fn(report)
    assert "67; 50 of 60 are named here, the page names all" in artifacts[0]
    assert artifacts[0].count("sentence ") == 50
    assert "7 alerts" in artifacts[0]
    report_opinion.fn(report.model_copy(update={"withdrawn_alerts": gone[:50]}))
    assert "57" in artifacts[1]
    assert "named here" not in artifacts[1]
    report_opinion.fn(report.model_copy(update={"withdrawn_alerts": [], "num_withdrawn_with_topic": 0}))
    assert "withdrawn" not in artifacts[2]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_first_alert_of_a_topic_waits_for_a_form_in_the_ui(
    tmp_path: Path, predictions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = []
    monkeypatch.setattr("tasks.monitor.emit_event", lambda **event: emitted.append(event))
    monkeypatch.setattr("tasks.ask_approval.POLL_SECONDS", 1)
    settings = MonitoringSettings.model_validate(
        {"time_column": "at", "bucket": "1h", "first_alert": "ask", "first_alert_hours": 2 / 3600, **SETTINGS}
    )
    refused = monitor_opinion(predictions, str(tmp_path / "silent"), settings)
    assert refused.new_alerts == []
    assert refused.waiting_alerts == []
    assert emitted == []
    record = json.loads((tmp_path / "silent/_reports/alerts.json").read_text())
    (decision,) = record["decisions"].values()
    assert decision["reason"] == "nobody answered within 0.000555556 hours (first_alert_hours)"

    def answer() -> None:
        given = {"approve": True, "topics": ["all rows"], "name": "Ada", "reason": "it is real"}
        resume_flow_run(paused_run(set()), run_input=given)

    person = threading.Thread(target=answer)
    person.start()
    patient = settings.model_copy(update={"first_alert_hours": 1.0})
    report = monitor_opinion(predictions, str(tmp_path / "out"), patient)
    person.join()
    assert [event["payload"]["sentence"] for event in emitted] == [report.new_alerts[0].sentence]
    assert monitor_opinion(predictions, str(tmp_path / "out"), patient).new_alerts == []


def test_a_terminal_asks_for_the_first_alert_of_a_topic(
    tmp_path: Path, predictions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["monitor", predictions, str(tmp_path / "out"), "--time-column", "at", "--bucket", "1h"]
    arguments += ["--settings", json.dumps({**SETTINGS, "first_alert": "ask"})]
    done = CliRunner().invoke(app, arguments)
    assert "waits for a person: all rows: " in done.stdout
    monkeypatch.setattr("flows.cli.monitor._is_terminal", lambda: True)
    done = CliRunner().invoke(app, arguments, input="y\nAda\nit is real\n")
    assert done.exit_code == 0, done.output
    assert "This is the first alert of all rows. Tell of it?" in done.stdout
    assert "new: all rows: " in done.stdout
    (decision,) = json.loads((tmp_path / "out/_reports/alerts.json").read_text())["decisions"].values()
    assert decision["approved"]
    assert decision["name"] == "Ada"
    assert decision["reason"] == "it is real"
