"""A search of settings through the flow and the command line, in one process and on workers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.engines import EngineSettings
from flows.retrain import retrain_on_labels
from flows.trial_tasks import check_engine_of_search
from sbert.errors import SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.registry.store import Registry
from sbert.retrain.settings import RetrainSettings
from tests.flows.retraining import QUICK
from tests.support.cluster_workers import a_busy_worker_dies
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")
NUM_TRIALS = 4


def settings_of(**training: Any) -> dict[str, Any]:
    return {
        **QUICK,
        "labels": {**QUICK["labels"], "test_share": 0.2, "dev_share": 0.2},
        "training": {**QUICK["training"], "epochs": 2, **training},
        "search": {"space": {"learning_rate": [2e-3, 4e-3]}},
    }


def write_labels(folder: Path, num_rows: int = 160) -> str:
    toy_rows(LabelKind.SCORED_PAIRS, num_rows).write_ndjson(folder / "labels.jsonl")
    return str(folder / "labels.jsonl")


def test_the_command_shows_all_trials_and_the_record_keeps_them(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    arguments = ["retrain", write_labels(tmp_path), str(tmp_path / "models"), "--base", base, "--search", "2"]
    shown = CliRunner().invoke(app, [*arguments, "--settings", json.dumps(settings_of())])
    assert shown.exit_code == 0, shown.output
    assert "Trials on dev rows" in shown.output
    assert "(best)" in shown.output
    record = Registry(str(tmp_path / "models")).version("v0002")
    assert record.training is not None
    assert [trial["number"] for trial in record.training["trials"]] == [1, 2]
    assert record.settings["search"]["trials"] == 2


def test_an_engine_that_the_search_cannot_use_is_refused_before_any_work(tmp_path: Path) -> None:
    arguments = ["retrain", write_labels(tmp_path), str(tmp_path / "models")]
    shown = CliRunner().invoke(app, [*arguments, "--search", "2", "--concurrency", "2"])
    assert shown.exit_code != 0
    assert "concurrency is 2, but engine local runs the trials of a search one after the other" in " ".join(
        shown.output.split()
    )
    assert not (tmp_path / "models").exists()
    with pytest.raises(SettingsError, match="engine ray runs the trials of a search side by side, but no search"):
        check_engine_of_search(EngineSettings.model_validate("ray"), 2, has_search=False)


@pytest.fixture
def killed_worker(tmp_path: Path) -> Iterator[list[int]]:
    """Kill the worker of a trial once it has a checkpoint; gives its process id."""
    checkpoints = "_runs/*/*/search/trial-*/**/_complete.json"
    with a_busy_worker_dies(lambda: any((tmp_path / "models").glob(checkpoints))) as killed:
        yield killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_cluster_tries_settings_side_by_side(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"pip install 'sbert-prefect[{kind}]'")
    report = retrain_on_labels(
        write_labels(tmp_path),
        str(tmp_path / "models"),
        save_tiny(tmp_path / "base"),
        search=NUM_TRIALS,
        settings=RetrainSettings.model_validate(settings_of()),
        concurrency=2,
        engine=kind,  # type: ignore[arg-type]
    )
    assert [trial.number for trial in report.trials] == [*range(1, NUM_TRIALS + 1)]
    assert report.trials[0].settings == {"learning_rate": 2e-3}
    assert sum(trial.is_best for trial in report.trials) == 1
    assert report.dev_best == max(trial.dev or 0.0 for trial in report.trials if trial.outcome == "completed")
    record = Registry(str(tmp_path / "models")).version("v0002")
    assert record.training is not None
    assert len(record.training["trials"]) == NUM_TRIALS


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_the_steps_since_its_checkpoint(
    tmp_path: Path, killed_worker: list[int]
) -> None:
    pytest.importorskip("prefect_ray", reason="pip install 'sbert-prefect[ray]'")
    report = retrain_on_labels(
        write_labels(tmp_path, 1_000),
        str(tmp_path / "models"),
        save_tiny(tmp_path / "base"),
        search=2,
        settings=RetrainSettings.model_validate(settings_of(epochs=12)),
        concurrency=2,
        engine="ray",  # type: ignore[arg-type]
    )
    assert len(killed_worker) == 1
    assert [trial.outcome for trial in report.trials] == ["completed", "completed"]
