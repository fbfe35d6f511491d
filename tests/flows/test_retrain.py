"""The whole retraining on tiny models: labels in, candidate judged, promoted or refused, tables follow."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.refresh import refresh_embeddings
from sbert.index.search import search_table
from sbert.labels.label_kinds import LabelKind
from sbert.refresh.job import RefreshSettings
from sbert.registry.store import Registry
from sbert.retrain.label_rows import load_measured
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.table.delta import Table
from tests.flows.retraining import QUICK, labels, retrain, settings, write_split
from tests.support.services import S3Server
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """Capture the events that flows emit; the function returns those on models, in order."""
    AssertingEventsClient.reset()
    worker = EventsWorker.instance(AssertingEventsClient)
    monkeypatch.setattr(EventsWorker, "instance", lambda *_: worker)
    monkeypatch.setattr("tasks.events._is_stored", lambda _: True)  # captured events do not reach the server

    def ours() -> list[Any]:
        worker.drain()
        events = [event for client in AssertingEventsClient.all for event in client.events]
        return [event for event in events if event.event.startswith("sbert.model.")]

    yield ours
    worker.drain()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, base: str, prefect_server: None) -> tuple[Path, RetrainReport]:
    """A planted good candidate: its train labels agree with the held-out rows."""
    folder = tmp_path_factory.mktemp("good")
    return folder, retrain(labels(folder / "labels"), folder / "models", base=base)


def test_a_good_candidate_is_promoted(promoted: tuple[Path, RetrainReport], base: str) -> None:
    folder, report = promoted
    assert report.promoted, report.reason
    assert report.version == "v0002"
    assert report.previous == "v0001"
    assert report.candidate == "v0002"
    assert report.primary_metric == "spearman"
    assert report.after > report.before + 0.1
    assert report.decision.primary.low > 0
    registry = Registry(str(folder / "models"))
    production = registry.production()
    assert production is not None
    assert production.version == "v0002"
    stored = registry.version("v0002")
    loaded = load_measured(str(folder / "models"))
    assert loaded.fingerprint == stored.encoder_fingerprint == report.decision.candidate_fingerprint
    assert registry.version("v0001").encoder_fingerprint == load_measured(base).fingerprint
    assert not list((folder / "models/_runs").rglob("*.safetensors"))  # checkpoints are gone once it is decided


def test_the_report_is_beside_the_version_and_names_both_fingerprints(promoted: tuple[Path, RetrainReport]) -> None:
    folder, report = promoted
    html = (folder / "models/v0002/report.html").read_text()
    assert report.report_uri == str(folder / "models/v0002/report.html")
    for expected in (
        report.decision.production_fingerprint,
        report.decision.candidate_fingerprint,
        report.decision.primary.rows_fingerprint[:16],
        report.labels.fingerprint,
        "data:image/png;base64,",
        "promoted",
    ):
        assert expected in html
    card = (folder / "models/v0002/model/README.md").read_text()
    assert "library_name: sentence-transformers" in card


def test_a_decided_retraining_is_not_repeated_until_there_are_new_labels(
    promoted: tuple[Path, RetrainReport], base: str, tmp_path: Path
) -> None:
    folder, first = promoted
    again = retrain(folder / "labels", folder / "models", base=base)
    assert not again.promoted
    assert again.decided_before
    assert again.version == "v0002"
    assert again.reason.startswith(f"nothing new: these labels and settings were decided on in run {first.run_id}")
    assert [stored.version for stored in Registry(str(folder / "models")).versions()] == ["v0001", "v0002"]


@pytest.mark.slow
def test_labels_that_production_learned_are_learned_again_when_asked(
    promoted: tuple[Path, RetrainReport], tmp_path: Path
) -> None:
    folder, _ = promoted
    models = shutil.copytree(folder / "models", tmp_path / "models")
    forced = retrain(folder / "labels", models, force=True)
    longer = retrain(folder / "labels", models, settings=settings(training={"epochs": 5}))
    assert forced.num_steps == 128 / 16 * 4  # all 128 train rows
    assert longer.num_steps == 128 / 16 * 5
    assert forced.previous == "v0002"
    assert forced.num_new_objects == 0


def test_a_bad_candidate_is_refused(tmp_path: Path, base: str, emitted: Callable[[], list[Any]]) -> None:
    report = retrain(labels(tmp_path / "labels", shuffled=True), tmp_path / "models", base=base)
    assert not report.promoted
    assert report.version == "v0001"
    assert report.previous == "v0001"
    assert "is a loss (80 test rows)" in report.reason or "could be chance" in report.reason
    assert load_measured(str(tmp_path / "models")).fingerprint == (report.decision.production_fingerprint)
    [event] = emitted()
    assert event.event == "sbert.model.rejected"
    assert event.resource.id == f"sbert.registry.{tmp_path / 'models'}"
    assert not event.payload["promoted"]
    assert event.payload["version"] == "v0001"
    assert event.payload["reason"] == report.reason


def test_promotion_is_announced_and_the_table_follows(
    tmp_path: Path, base: str, emitted: Callable[[], list[Any]]
) -> None:
    models, table, raw = str(tmp_path / "models"), str(tmp_path / "table"), tmp_path / "raw"
    write_split(raw, pl.DataFrame({"id": ["a", "b"], "text": ["the cat sat on mat", "a train is late"]}), "texts")
    job = RetrainJob(labels_uri=labels(tmp_path / "labels"), models_uri=models, base=base, settings=settings())
    assert find_inputs(job, "first").production.version == "v0001"  # an empty registry gets its first version
    in_float32 = RefreshSettings.model_validate({"encoding": {"compute_dtype": "float32"}})
    refresh_embeddings(raw_uri=str(raw), table_uri=table, model=models, settings=in_float32)
    assert Table.open(table).encoder.model == f"{models}/v0001/model"
    report = retrain(job.labels_uri, models)
    assert report.promoted
    [event] = emitted()
    assert event.event == "sbert.model.promoted"
    payload = event.payload
    assert payload["model_uri"] == f"{models}/v0002/model"
    assert payload["promoted"]
    assert payload["version"] == "v0002"
    assert payload["after"] == report.after
    kept = refresh_embeddings(raw_uri=str(raw), table_uri=table)  # without --model a table keeps its encoder
    assert kept.version == 0
    assert kept.num_rows_read == 0
    assert search_table(Table.open(table), "the cat sat on mat").hits()[0].id == "a"  # and its readers theirs
    refreshed = refresh_embeddings(raw_uri=str(raw), table_uri=table, model=models, settings=in_float32)
    assert refreshed.version == 1
    assert refreshed.num_rows_encoded == 2
    assert refreshed.num_rows_carried == 0
    encoder = Table.open(table).encoder
    assert encoder.model == payload["model_uri"]
    assert encoder.model_fingerprint == report.decision.candidate_fingerprint == payload["candidate_fingerprint"]


def test_a_candidate_that_loses_a_skill_is_refused(tmp_path: Path, base: str) -> None:
    """The regression set contradicts the labels: pairs that the labels call alike are unlike in it."""
    skill = toy_rows(LabelKind.SCORED_PAIRS, 120, seed=9).with_columns(score=1.0 - pl.col("score"))
    write_split(tmp_path / "skill", skill, "test")
    write_split(tmp_path / "skill", skill.head(20).with_columns(pl.col("sentence1") + " x"), "train")
    sets = [{"name": "old-skill", "uri": str(tmp_path / "skill"), "labels": {"near_duplicate_similarity": 1.0}}]
    asked = settings(regression_sets=sets)
    report = retrain(labels(tmp_path / "labels"), tmp_path / "models", base=base, settings=asked)
    assert not report.promoted
    assert report.decision.primary.low > 0
    assert "regression set old-skill: spearman drops by" in report.reason
    assert Registry(str(tmp_path / "models")).version("v0002").was_accepted is False


def test_no_dev_improvement_keeps_production_and_says_so(tmp_path: Path, base: str) -> None:
    still = settings(training={"learning_rate": 1e-12, "epochs": 1})
    report = retrain(labels(tmp_path / "labels"), tmp_path / "models", base=base, settings=still)
    assert not report.promoted
    assert report.version == "v0001"
    assert report.candidate is None
    assert "no checkpoint was better on dev than the encoder that training began with" in report.reason
    assert "v0001 stays" in report.reason
    assert report.before == report.after
    best = re.search(
        r"training began with: (\S+) at best, (\S+) before .* change training.learning_rate \(1e-12\)", report.reason
    )
    assert best is not None
    assert float(best[2]) == pytest.approx(report.dev_before, abs=1e-4)
    assert float(best[1]) <= float(best[2])
    assert report.report_uri is not None
    html = Path(report.report_uri).read_text()
    assert "<h1>no new model: refused</h1>" in html
    assert report.decision.production_fingerprint in html
    again = retrain(tmp_path / "labels", tmp_path / "models", base=base, settings=still)
    assert again.decided_before
    assert again.report_uri == report.report_uri
    assert Path(report.report_uri).exists()


@pytest.mark.s3
def test_a_retraining_on_s3_by_the_command_line_promotes_and_reports(
    tmp_path: Path, base: str, s3: S3Server, s3_bucket: str
) -> None:
    client = s3.filesystem()
    client.put(labels(tmp_path / "labels"), f"{s3_bucket}/labels", recursive=True)
    options = json.dumps(QUICK)
    arguments = ["retrain", f"{s3_bucket}/labels", f"{s3_bucket}/models", "--base", base, "--settings", options]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {"promoted", "version", "primary_metric", "before", "after", "reason"} <= set(report)
    assert report["promoted"]
    assert report["version"] == "v0002"
    assert report["primary_metric"] == "spearman"
    assert client.exists(f"{s3_bucket}/models/{report['candidate']}/report.html")
    listing = json.loads(CliRunner().invoke(app, ["models", f"{s3_bucket}/models", "--json"]).stdout)
    assert listing["production"] == report["version"]
    assert len(listing["versions"]) == 2
    again = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert again["decided_before"]
    assert again["version"] == report["version"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "not promoted" in shown.stdout
    assert "nothing new: these labels" in " ".join(shown.stdout.split())
