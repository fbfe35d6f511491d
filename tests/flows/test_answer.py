"""`sbert answer` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.answers import answer_table
from flows.cli.commands import app
from sbert.apply.answers.settings import AnswerSettings
from sbert.derived.any_table import verify_any
from sbert.errors import ColumnError
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version
from tests.support.refreshing import refreshed
from tests.support.tables import rows, write

WORDS = '{"question_column": "kind", "answer_columns": ["kind"]}'


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    questions, answers = str(tmp_path / "questions"), str(tmp_path / "answers")
    make_version(questions, {"q": {str(row): row for row in range(20)}})
    make_version(answers, {"a": {str(row): row + 10 for row in range(30)}})
    return questions, answers, str(tmp_path / "out")


def test_the_command_answers_reports_and_asks_for_labels(places: tuple[str, str, str], tmp_path: Path) -> None:
    asked = tmp_path / "to-label.jsonl"
    done = CliRunner().invoke(app, ["answer", *places, "--settings", WORDS, "--to-label", str(asked), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert sum(report["decisions"].values()) == report["output"]["num_rows"] == 20
    assert report["num_answers"] == 30
    page = Path(report["report_uri"]).read_text()
    assert "probabilities are a guess" in page
    assert [json.loads(line)["positive"] for line in asked.read_text().splitlines()] == [None] * len(
        report["unanswered"]
    )
    assert sum(group["num_questions"] for group in report["unanswered"]) == report["decisions"]["abstain"] > 0
    again = CliRunner().invoke(app, ["answer", *places, "--settings", WORDS])
    assert "no labels: the probabilities are a guess" in again.stdout
    assert "0 shards built (0 rows), 1 kept" in again.stdout
    assert f"without answer ({report['reasons']['unsure']} unsure)" in again.stdout
    assert verify_any(places[2]).findings == []


def test_labels_are_fitted_once(tmp_path: Path, model: str) -> None:
    faq = write(tmp_path / "faq.jsonl", rows(0, 40))
    tickets = write(tmp_path / "tickets.jsonl", rows(0, 45))
    for name, raw in (("faq", faq), ("tickets", tickets)):
        refreshed(raw, tmp_path / "tables" / name, model, settings={"source": {"keep_columns": ["text"]}})
    labels = [{"anchor": f"{row['text']} please", "positive": row["text"]} for row in rows(0, 40)]
    write(tmp_path / "labels" / "pairs.jsonl", labels)
    arguments = [*(str(tmp_path / "tables" / name) for name in ("tickets", "faq")), str(tmp_path / "out")]
    arguments += ["--labels", str(tmp_path / "labels"), "--promised-error", "0.2", "--json"]
    first, second = (CliRunner().invoke(app, ["answer", *arguments]) for _ in range(2))
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["model"]["origin"] == "labels"
    assert report["model"]["quality"]["num_questions"] + report["model"]["quality"]["num_unmatched"] <= 40
    assert json.loads(second.stdout)["output"]["num_rows_built"] == 0


def test_reasons_need_the_encoded_texts(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["answer", *places, "--explain", "--settings", WORDS])
    assert done.exit_code == 1
    assert "no kept column holds the encoded text" in " ".join(done.output.split())


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_decides_every_question_and_a_second_run_computes_nothing(places: tuple[str, str, str]) -> None:
    settings = AnswerSettings.model_validate_json(WORDS)
    assert answer_table(*places, settings=settings).output.num_rows_built == 20
    assert outcome_of_newest_run() == "Version 0: 20 rows, 20 computed; decisions: answer 0, clarify 0, abstain 20"
    assert answer_table(*places, settings=settings).output.num_rows_built == 0
    with pytest.raises(ColumnError, match="no kept column holds the encoded text"):
        answer_table(*places, settings=AnswerSettings(), explain=True)
