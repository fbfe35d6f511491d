"""`sbert map`."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.map_table import map_table
from sbert.apply.map.settings import MapSettings
from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings
from sbert.derived.derived_table import DerivedTable
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version
from tests.support.made_texts import make_text_version


def test_the_command_writes_a_page_and_says_what_is_on_it(tmp_path: Path) -> None:
    table, output = str(tmp_path / "table"), tmp_path / "map.html"
    make_version(table, {"a": {str(row): row for row in range(30)}})
    done = CliRunner().invoke(
        app, ["map", table, "--output", str(output), "--text-column", "kind", "--topics", "2", "--json"]
    )
    result = json.loads(done.stdout)
    assert done.exit_code == 0
    assert result["num_rows"] == 30
    assert result["num_table_rows"] == 30
    assert len(result["topics"]) == 2
    assert output.read_text().startswith("<!doctype html>")
    assert result["num_bytes"] == output.stat().st_size


def test_the_command_draws_the_topics_of_an_output(tmp_path: Path) -> None:
    table, topics, output = str(tmp_path / "table"), str(tmp_path / "topics"), str(tmp_path / "map.html")
    make_text_version(table, {"a": [(str(n), f"about {'ab'[n % 2]}", np.eye(4)[n % 2].tolist()) for n in range(40)]})
    find_topics(table, topics, TopicSettings(fit=FitSettings(num_topics=2, outlier_share=0.0)))
    done = CliRunner().invoke(app, ["map", table, "--output", output, "--topics-from", topics, "--json"])
    result = json.loads(done.stdout)
    assert result["topics_uri"] == topics
    assert len(result["topics"]) == 2
    assert {name.split()[0] for name in result["topics"]} == {"0", "1"}
    shown = CliRunner().invoke(app, ["map", table, "--output", output, "--topics-from", topics])
    assert "40 rows of version 0, 2 topics" in " ".join(shown.output.split())


def test_an_unknown_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    make_version(table, {"a": {"1": 1}})
    done = CliRunner().invoke(app, ["map", table, "--text-column", "kind", "--color-by", "team"])
    assert done.exit_code == 1
    assert "no kept column 'team'" in done.output


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_writes_the_page_and_the_coordinates(tmp_path: Path) -> None:
    table, output = str(tmp_path / "table"), tmp_path / "pages/map.html"
    make_version(table, {"a": {str(row): row for row in range(30)}})
    settings = MapSettings(text_column="kind", num_topics=2)
    report = map_table(table, str(output), str(tmp_path / "places"), settings=settings)
    assert outcome_of_newest_run() == "Version 0 of the table: 30 of 30 rows drawn, 2 topics"
    assert report.num_rows == 30
    assert report.num_bytes == output.stat().st_size
    assert DerivedTable.open(str(tmp_path / "places")).num_rows == 30
