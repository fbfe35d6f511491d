"""`sbert recommend` and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.recommend import recommend_items
from sbert.apply.recommendation.settings import RankingSettings, RecommendationSettings
from sbert.errors import ModelError
from tests.sbert.apply.recommendation.made_events import event, item_rows, made_events, write_events, write_items
from tests.support.flow_runs import outcome_of_newest_run

SMALL = {"ranking": {"num_factors": 4, "num_rounds": 2}}


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    write_items(tmp_path / "items", item_rows())
    write_events(tmp_path / "events", made_events())
    return str(tmp_path / "items"), str(tmp_path / "events"), str(tmp_path / "out")


def test_the_command_prints_the_keys_that_scripts_rely_on(tmp_path: Path, places: tuple[str, str, str]) -> None:
    arguments = ["recommend", *places, "-k", "5", "--settings", json.dumps(SMALL)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "20 users, 20 lists made in this run; 40 items, 2 of them new" in done.output
    assert "200 events\n" in done.output
    write_events(tmp_path / "events", [event("u01", "of another shop", 60), event("u01", 12, 60)], "b")
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert report["num_users_computed"] == 1
    assert report["refitted"] == ""
    assert report["rejected"] == {"unknown item": 1}
    keys = {"version", "table_version", "num_shards_built", "num_shards_kept", "num_rows", "num_users", "num_events"}
    assert keys | {"num_events_rejected"} <= report.keys()
    assert report["num_rows"] == 100
    assert report["num_events"] == 201
    assert report["num_events_rejected"] == 1
    again = json.loads(CliRunner().invoke(app, [*arguments, "--refit", "--json"]).stdout)
    assert again["refitted"] == "asked for"
    assert again["num_users_computed"] == 20


def test_the_command_adds_pairs_of_sessions_to_the_labels(tmp_path: Path, places: tuple[str, str, str]) -> None:
    labels = tmp_path / "labels"
    write_events(tmp_path / "events", [event(user, item, 10**6) for user in ("a", "b", "c") for item in (3, 5)], "b")
    arguments = ["recommend", *places, "--settings", json.dumps(SMALL), "--pairs-to", str(labels)]
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    (file,) = labels.iterdir()
    assert report["pairs_uri"] == str(labels)
    assert report["pairs_file"] == str(file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert report["num_pairs_new"] == len(rows) > 0
    assert {"text 3", "text 5"} in [{row["anchor"], row["positive"]} for row in rows]
    again = CliRunner().invoke(app, arguments)
    assert f"0 new pairs of sessions for {labels}" in " ".join(again.output.split())


def test_a_column_that_is_not_there_is_named(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["recommend", *places, "--settings", '{"events": {"user": "customer"}}'])
    assert done.exit_code == 1
    assert "no column 'customer'" in " ".join(done.output.split())


def test_reasons_need_the_encoder_of_the_items(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["recommend", *places, "--explain", "--settings", json.dumps(SMALL)])
    assert done.exit_code == 1
    assert "reasons cannot be given" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_writes_the_lists(tmp_path: Path, places: tuple[str, str, str]) -> None:
    settings = RecommendationSettings(ranking=RankingSettings(num_factors=4, num_rounds=2))
    report = recommend_items(*places, settings, pairs_uri=str(tmp_path / "labels"))
    assert outcome_of_newest_run() == "Version 0: lists for 20 users, 20 computed"
    assert report.num_users == 20
    assert report.num_users_computed == 20
    assert report.pairs_uri == str(tmp_path / "labels")
    with pytest.raises(ModelError, match="reasons cannot be given"):
        recommend_items(*places, settings, explain=True)
