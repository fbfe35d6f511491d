"""Retrainings that diverge, fail, are killed, are overtaken or cannot be judged: production stays."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import EvaluationError, LabelError, PromotionConflictError, SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from sbert.retrain import promotion
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.training.losses.pairs import CosineLoss
from tests.flows.retraining import QUICK, labels, retrain, settings, write_split
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


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
