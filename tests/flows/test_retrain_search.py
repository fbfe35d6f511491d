"""A search of settings through the flow and the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.labels.label_kinds import LabelKind
from sbert.registry.store import Registry
from tests.flows.retraining import QUICK
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_command_shows_all_trials_and_the_record_keeps_them(tmp_path: Path) -> None:
    toy_rows(LabelKind.SCORED_PAIRS, 160).write_ndjson(tmp_path / "labels.jsonl")
    settings = {
        **QUICK,
        "labels": {**QUICK["labels"], "test_share": 0.2, "dev_share": 0.2},
        "training": {**QUICK["training"], "epochs": 2},
        "search": {"space": {"learning_rate": [2e-3, 4e-3]}},
    }
    base = save_tiny(tmp_path / "base")
    arguments = ["retrain", str(tmp_path / "labels.jsonl"), str(tmp_path / "models"), "--base", base, "--search", "2"]
    shown = CliRunner().invoke(app, [*arguments, "--settings", json.dumps(settings)])
    assert shown.exit_code == 0, shown.output
    assert "Trials on dev rows" in shown.output
    assert "(best)" in shown.output
    record = Registry(str(tmp_path / "models")).version("v0002")
    assert record.training is not None
    assert [trial["number"] for trial in record.training["trials"]] == [1, 2]
    assert record.settings["search"]["trials"] == 2
