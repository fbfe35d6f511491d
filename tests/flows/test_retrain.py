"""The whole retraining on tiny models: labels in, candidate judged, promoted or refused, tables follow."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.refresh import refresh_embeddings
from flows.retrain import retrain_encoder
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import EvaluationError, LabelError, PromotionConflictError, SettingsError
from sbert.index.search import search_table
from sbert.labels.label_kinds import LabelKind
from sbert.refresh.job import RefreshSettings
from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from sbert.retrain import promotion
from sbert.retrain.label_rows import load_measured
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.table.delta import Table
from sbert.training.losses.pairs import CosineLoss
from tests.support.services import S3Server
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")

QUICK: dict[str, Any] = {
    "labels": {"near_duplicate_similarity": 1.0},
    "training": {"objective": "cosine", "epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "bf16": False},
    "evaluation": {"num_resamples": 300, "num_permutations": 100, "speed_texts": 0, "perturbations": ["typos"]},
    "gate": {"robustness": {"sets": []}},
}


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


def settings(**other: Any) -> RetrainSettings:
    merged = {name: {**QUICK.get(name, {}), **other.pop(name, {})} for name in {*QUICK, *set(other) & set(QUICK)}}
    return RetrainSettings.model_validate({**merged, **other})


def write_split(folder: Path, rows: pl.DataFrame, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_ndjson(folder / f"{name}.jsonl")


def labels(folder: Path, *, shuffled: bool = False) -> str:
    """Write labels with given splits; `shuffled` spoils the train and dev rows, and never the test rows."""
    for name, num_rows, seed in (("train", 128, 0), ("dev", 40, 1), ("test", 80, 2)):
        rows = toy_rows(LabelKind.SCORED_PAIRS, num_rows, seed)
        if shuffled and name != "test":
            rows = rows.with_columns(pl.col("score").shuffle(seed=3))
        write_split(folder, rows, name)
    return str(folder)


def retrain(labels_uri: object, models_uri: object, **options: Any) -> RetrainReport:
    retrain_settings = options.pop("settings", settings())
    return retrain_encoder(labels_uri=str(labels_uri), models_uri=str(models_uri), settings=retrain_settings, **options)


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


def test_a_loss_that_becomes_nan_keeps_the_last_good_checkpoint_and_production(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = CosineLoss.forward, []

    def diverging(*args: Any) -> Any:
        steps.append(1)
        return real(*args) * (math.nan if len(steps) > 20 else 1.0)

    monkeypatch.setattr(CosineLoss, "forward", diverging)
    report = retrain(labels(tmp_path / "labels"), tmp_path / "models", base=base)
    assert not report.promoted
    assert report.version == "v0001"
    assert report.stop_reason == "nan_loss"
    assert report.reason.startswith(
        f"training diverged: the loss of step {report.num_steps + 1} is nan, at learning rate 0.00"
    )
    assert "lower training.learning_rate (0.002)" in report.reason
    candidate = Registry(str(tmp_path / "models")).version("v0002")
    assert not candidate.was_accepted
    stored = SentenceEncoder.from_pretrained(str(tmp_path / "models/v0002"))
    assert np.isfinite(stored.encode(["the cat"])).all()


def test_a_training_that_fails_is_a_failure_and_keeps_production(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CosineLoss, "forward", lambda *_: torch.tensor(math.nan, requires_grad=True))
    arguments = ["retrain", labels(tmp_path / "labels"), str(tmp_path / "models"), "--base", base, "--json"]
    result = CliRunner().invoke(app, [*arguments, "--settings", json.dumps(QUICK)])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["kind"] == "DivergedError"
    production = Registry(str(tmp_path / "models")).production()
    assert production is not None
    assert production.version == "v0001"


def test_a_run_killed_before_promotion_is_finished_without_training(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "promote", killed_after_first(killed))
        with pytest.raises(KeyboardInterrupt):
            retrain(labels(tmp_path / "labels"), models, base=base)
    assert [stored.version for stored in Registry(str(models)).versions()] == ["v0001", "v0002"]
    with monkeypatch.context() as patch:
        patch.setattr("sbert.retrain.judge.train_encoder", killed)  # not called again
        report = retrain(tmp_path / "labels", models, base=base)
    assert report.promoted
    assert report.version == "v0002"


def killed_after_first(killed: Callable[..., None]) -> Callable[..., Any]:
    """Let the first version of a registry become production, and nothing after it."""
    real = Registry.promote

    def promote(self: Registry, version: str, **options: Any) -> Any:
        return real(self, version, **options) if options["current"] is None else killed()

    return promote


def test_a_promotion_that_came_second_is_an_error_and_keeps_the_version(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(str(tmp_path / "models"))
    job = RetrainJob(labels_uri=labels(tmp_path / "labels"), models_uri=registry.uri, base=base, settings=settings())
    first = find_inputs(job, "first")
    real = promotion.store_and_promote

    def overtaken(*args: Any) -> RetrainReport:
        other = registry.add(
            VersionRecord(
                version="", encoder_fingerprint="other", dim=32, base=first.production_uri, run_id="other",
                labels=first.labels,
            ),
            Path(base),
        )  # fmt: skip
        registry.promote(other.version, current=registry.production(), reason="better", run_id="other run")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr("tasks.retrain.store_and_promote", overtaken)
        with pytest.raises(
            PromotionConflictError, match=r"another promotion made v0002 production first \(run other run\)"
        ):
            retrain(job.labels_uri, registry.uri)
    production = registry.production()
    assert production is not None
    assert production.version == "v0002"
    assert registry.version("v0003").was_accepted
    again = retrain(job.labels_uri, registry.uri)  # as the message says; the winner knew all labels
    assert again.previous == "v0002"
    assert not again.decided_before
    assert again.num_steps == 32


def test_a_retraining_that_cannot_be_judged_is_refused_before_training(tmp_path: Path, base: str) -> None:
    models = tmp_path / "models"
    write_split(tmp_path / "texts", toy_rows(LabelKind.TEXTS, 100), "all")
    with pytest.raises(
        SettingsError, match="plain texts do not say which of two encoders is better: name a labelled set"
    ):
        retrain(tmp_path / "texts", models, base=base)
    with pytest.raises(
        EvaluationError, match="held-out: there are 80 test rows, but comparing two encoders needs at least 200"
    ):
        retrain(labels(tmp_path / "few"), models, base=base, settings=settings(evaluation={"min_test_rows": 200}))
    one_class = toy_rows(LabelKind.CLASSES, 100).with_columns(label=pl.lit("only"))
    write_split(tmp_path / "one", one_class, "all")
    with pytest.raises(LabelError, match="one class"):
        retrain(tmp_path / "one", models, base=base)
    write_split(tmp_path / "three", toy_rows(LabelKind.CLASSES, 3), "all")
    with pytest.raises(LabelError, match="rows to train on"):
        retrain(tmp_path / "three", models, base=base)
    assert not models.exists()


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
