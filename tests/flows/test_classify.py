"""`sbert classify` and its flow."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flows.classify import classify_table
from flows.cli.classify import _told_answers
from flows.cli.commands import app
from sbert.apply.classification.settings import ClassificationSettings
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.retrain import study
from sbert.training.classifier_files import ClassifierFiles
from sbert.training.learned_texts import LearnedTexts
from tests.support.artifacts import artifacts_of
from tests.support.flow_runs import newest_run, outcome_of_newest_run
from tests.support.tables import rows, texts, update, write
from tests.support.tiny_models import save_tiny

QUICK = {"head": {"kinds": ["linear"], "strengths": [10], "num_folds": 2}}


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str]:
    """A table and labels of its kind of texts."""
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    update(tmp_path / "raw", tmp_path / "table", model=model)
    labels = [
        {"text": text, "label": "odd" if at % 2 else "even", "tone": "ab"[at % 3 == 0]}
        for at, text in enumerate(texts(0, 60))
    ]
    write(tmp_path / "labels/a.jsonl", labels)
    return str(tmp_path / "table"), str(tmp_path / "labels")


def test_the_command_prints_the_keys_that_scripts_rely_on(tmp_path: Path, places: tuple[str, str]) -> None:
    arguments = ["classify", *places, str(tmp_path / "out"), "--tasks", "label,tone", "--settings", json.dumps(QUICK)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["output"]["num_rows_built"] == 30
    assert [task["head"]["task"] for task in report["tasks"]] == ["label", "tone"]
    assert Path(report["report_uri"]).read_text().startswith("<!doctype html>")
    again = CliRunner().invoke(app, arguments)
    assert "labels, encoder and settings did not change" in again.stdout
    assert "0 shards built" in again.stdout
    assert "0 of 30 rows answered, the head abstains on all" in again.stdout
    assert "tone: 30 of 60 labelled texts are in version 0 of the table" in again.stdout
    assert [task["head"]["in_table"]["num_found"] for task in report["tasks"]] == [30, 30]
    write(tmp_path / "strange/a.jsonl", [{"text": f"far {at}", "label": "ab"[at % 2]} for at in range(60)])
    strange = str(tmp_path / "strange")
    warned = CliRunner().invoke(
        app, ["classify", places[0], strange, str(tmp_path / "other"), "--settings", json.dumps(QUICK)]
    )
    told = "".join(warned.stdout.split())
    assert f"Noneof60labelledtextsof{strange}isinthetable{places[0]}" in told


def test_the_command_says_what_becomes_of_the_encoders_own_classifier(tmp_path: Path) -> None:
    own = save_tiny(tmp_path / "own")
    dim = SentenceEncoder.from_pretrained(own, device="cpu").dim
    ClassifierFiles(("even", "odd"), np.ones((2, dim), np.float32), np.zeros(2, np.float32)).write(Path(own))
    LearnedTexts.of(labelled=pl.Series(texts(0, 60))).write(Path(own))
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    update(tmp_path / "raw", tmp_path / "table", model=own)
    labels = [{"text": text, "label": "odd" if at % 2 else "even"} for at, text in enumerate(texts(0, 60))]
    write(tmp_path / "labels/a.jsonl", labels)
    arguments = [
        "classify",
        *(str(tmp_path / name) for name in ("table", "labels", "out")),
        "--settings",
        json.dumps(QUICK),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "The classifier that was trained together with the encoder is not considered" in told
    assert "100 others are needed (head.min_unseen_rows)" in told
    done = CliRunner().invoke(app, [*arguments, "--json"])
    use = json.loads(done.stdout)["tasks"][0]["head"]["classifier"]
    assert (use["is_used"], use["num_unseen"]) == (False, 0)


@pytest.mark.usefixtures("places")
def test_lists_of_classes_are_given_measured_and_suggested_again(tmp_path: Path, model: str) -> None:
    table = str(tmp_path / "kept")
    update(tmp_path / "raw", table, model=model, settings={"source": {"keep_columns": ["text"]}})
    labels = [
        {"text": text, "tags": [*(["odd"] if at % 2 else []), *(["third"] if at % 3 == 0 else [])]}
        for at, text in enumerate(texts(0, 60))
    ]
    write(tmp_path / "lists/a.jsonl", labels)
    out = str(tmp_path / "out")
    arguments = [
        "classify",
        table,
        str(tmp_path / "lists"),
        out,
        "--tasks",
        "tags",
        "--settings",
        json.dumps(QUICK),
    ]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    quality = json.loads(done.stdout)["tasks"][0]["head"]["quality"]
    assert {"subset_accuracy", "micro_f1", "macro_f1", "possible_coverage"} <= quality.keys()
    again = CliRunner().invoke(app, arguments)
    assert "0 shards built" in again.stdout
    assert "tags: whole lists right" in again.stdout
    assert "micro-F1" in again.stdout
    todo = tmp_path / "todo.jsonl"
    suggested = CliRunner().invoke(app, ["suggest", table, str(todo), "-n", "5", "--predictions", out])
    assert suggested.exit_code == 0, suggested.output
    assert all(json.loads(line)["labels"] is None for line in todo.read_text().splitlines())


def test_the_command_searches_and_tells_what_came_of_it(tmp_path: Path, places: tuple[str, str]) -> None:
    settings = {"head": {**QUICK["head"], "search": {"max_minutes": 30}}}
    arguments = ["classify", *places, str(tmp_path / "out"), "--search", "3", "--settings", json.dumps(settings)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "The search tried 3 settings beside the grid" in " ".join(shown.stdout.split())
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    head = report["tasks"][0]["head"]
    assert (head["search"]["num_trials"], head["search"]["num_asked"]) == (3, 3)
    assert [told["trial"] for told in head["tried"] if "trial" in told] == [1, 2, 3]
    refused = CliRunner().invoke(app, [*arguments[:4], "--search", "-1"])
    assert refused.exit_code == 2
    assert "'--search': Input should be greater than or equal to 0" in " ".join(refused.output.split())


def test_without_optuna_the_command_names_the_extra(
    tmp_path: Path, places: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["classify", *places, str(tmp_path / "out"), "--search", "3"])
    assert done.exit_code == 1
    assert "pip install 'sbert-prefect[search]'" in " ".join(done.output.split())


def test_labels_that_cannot_be_read_are_one_line(tmp_path: Path, places: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["classify", *places, str(tmp_path / "out"), "--tasks", "mood"])
    assert done.exit_code == 1
    assert "mood" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("prefect_server")
def test_command_and_flow_tell_which_part_of_the_rules_the_head_takes(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    table = str(tmp_path / "table")
    update(tmp_path / "raw", table, model=model, settings={"source": {"keep_columns": ["text"]}})
    labels = [{"text": text, "label": "odd" if at % 2 else "even"} for at, text in enumerate(texts(0, 60))]
    write(tmp_path / "labels/a.jsonl", labels)
    rules_uri = str(write(tmp_path / "rules.jsonl", [{"class": "odd", "terms": ["a"]}]))
    settings = {**QUICK, "rules_uri": rules_uri}
    out = str(tmp_path / "out")
    shown = CliRunner().invoke(
        app, ["classify", table, str(tmp_path / "labels"), out, "--settings", json.dumps(settings)]
    )
    assert shown.exit_code == 0, shown.output
    report = classify_table(table, str(tmp_path / "labels"), out, ClassificationSettings.model_validate(settings))
    use = report.tasks[0].head.rules_use
    assert use is not None
    assert use.told() in " ".join(shown.stdout.split())
    (artifact,) = [
        artifact for artifact in artifacts_of(newest_run()[0]["id"]) if artifact.key == "classification-heads"
    ]
    assert use.told() in artifact.data


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_classifies_every_row_and_a_second_run_computes_nothing(
    tmp_path: Path, places: tuple[str, str]
) -> None:
    settings = ClassificationSettings.model_validate(QUICK)
    report = classify_table(*places, str(tmp_path / "out"), settings)
    assert outcome_of_newest_run() == "Version 0: 30 rows, 30 computed; 0 classes given, 30 abstained"
    assert report.output.num_rows == 30
    assert sum(report.tasks[0].now.classes.values()) == 30
    assert classify_table(*places, str(tmp_path / "out"), settings).output.num_rows_built == 0


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_gives_lists_of_classes_too(tmp_path: Path, places: tuple[str, str]) -> None:
    rows = [{"text": text, "tags": ["odd"] if at % 2 else []} for at, text in enumerate(texts(0, 60))]
    write(tmp_path / "lists/a.jsonl", rows)
    settings = ClassificationSettings.model_validate({**QUICK, "label_columns": ["tags"], "group_columns": ["source"]})
    report = classify_table(places[0], str(tmp_path / "lists"), str(tmp_path / "out"), settings)
    assert report.tasks[0].head.is_multi_label
    assert [of.column for of in report.tasks[0].groups] == ["source"]
    shown = [(group.value, group.num_rows) for group in report.tasks[0].groups[0].groups]
    assert shown == [(f"{tmp_path}/raw/a.jsonl", 30)]
    assert report.tasks[0].now.num_rows == 30
    assert report.tasks[0].now.classes.get("odd", 0) + report.tasks[0].now.num_without_class == 30


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_searches_settings_of_a_head(tmp_path: Path, places: tuple[str, str]) -> None:
    settings = ClassificationSettings.model_validate(QUICK)
    report = classify_table(*places, str(tmp_path / "out"), settings, search=2)
    assert report.tasks[0].head.search is not None
    assert report.tasks[0].head.search.num_trials == 2
    assert classify_table(*places, str(tmp_path / "out"), settings, search=2).output.num_rows_built == 0
    shown = classify_table.parameters.model_dump()["properties"]["search"]
    assert (shown["minimum"], shown["maximum"], shown["default"]) == (0, 1_000, 0)


@pytest.mark.parametrize(
    ("answered", "num_rows", "told"),
    [
        (0, 0, "the table has no rows"),
        (0, 2, "0 of 2 rows answered, the head abstains on all"),
        (1, 2, "1 of 2 rows answered, the head abstains on the others"),
        (2, 2, "2 of 2 rows answered"),
    ],
)
def test_the_answered_rows_are_told(answered: int, num_rows: int, told: str) -> None:
    assert _told_answers(answered, num_rows) == told
