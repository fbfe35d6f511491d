"""Runs leave little behind: checkpoints stay while a run can be resumed, and no longer."""

import os
import time
from pathlib import Path

import pytest

from sbert.registry.pointer import Pointer, PointerReason
from sbert.registry.version_record import LabelsRecord
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.run_records import record_run, remove_stale_checkpoints
from sbert.retrain.settings import RetrainJob, RetrainSettings

DAY = 86_400


def inputs(models: Path, run_key: str, objects: list[str], uri: str = "labels") -> RetrainInputs:
    production = Pointer(
        number=1, version="v0001", encoder_fingerprint="f", previous=None, action=PointerReason.FIRST, reason="", run_id="r",
        moved_at="",
    )  # fmt: skip
    return RetrainInputs(
        models_uri=str(models), run_id="run", run_key=run_key, row_fingerprints=(), known_objects=frozenset(),
        labels=LabelsRecord(uri=uri, kind="pairs", fingerprint="l", counts={}, objects=objects), production=production,
        base="b", base_fingerprint="0123456789abcdef", stored=None,
    )  # fmt: skip


def killed_run(models: Path, run_key: str, objects: list[str], *, age_days: float = 0.0, uri: str = "labels") -> Path:
    """Leave a checkpoint as a killed run does; give its folder."""
    run = inputs(models, run_key, objects, uri)
    record_run(run)
    checkpoint = Path(run.checkpoints_uri, "fingerprint", "checkpoint-8")
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    for path in Path(run.run_uri).rglob("*"):
        os.utime(path, (time.time() - age_days * DAY,) * 2)
    return checkpoint


def clean_up(models: Path, objects: list[str], keep_checkpoints_days: float = 14.0) -> list[str]:
    """Begin another run on these objects; give the keys of the runs that it cleaned up after."""
    settings = RetrainSettings(keep_checkpoints_days=keep_checkpoints_days)
    job = RetrainJob(labels_uri="labels", models_uri=str(models), settings=settings)
    return remove_stale_checkpoints(job, inputs(models, "present", objects))


def test_checkpoints_of_a_killed_run_are_removed_once_the_labels_changed(tmp_path: Path) -> None:
    checkpoint = killed_run(tmp_path, "killed", ["a@1"])
    assert clean_up(tmp_path, ["a@1"]) == []
    assert (checkpoint / "model.safetensors").exists()
    assert clean_up(tmp_path, ["a@1", "b@1"]) == ["killed"]
    assert not checkpoint.exists()
    assert clean_up(tmp_path, ["a@1", "b@1"]) == []


def test_checkpoints_of_a_run_on_other_labels_stay(tmp_path: Path) -> None:
    checkpoint = killed_run(tmp_path, "killed", ["x@1"], uri="other labels")
    assert clean_up(tmp_path, ["a@1"]) == []
    assert checkpoint.exists()


def test_checkpoints_are_removed_after_their_age_whatever_the_labels(tmp_path: Path) -> None:
    young = killed_run(tmp_path, "young", ["a@1"], age_days=13)
    old = killed_run(tmp_path, "old", ["a@1"], age_days=15)
    Path(old.parents[2], "run.json").unlink()  # as an earlier release left it
    assert clean_up(tmp_path, ["a@1"]) == ["old"]
    assert young.exists()
    assert not old.exists()


def test_the_runs_own_checkpoints_stay_however_old(tmp_path: Path) -> None:
    checkpoint = killed_run(tmp_path, "present", ["a@1"], age_days=400)
    assert clean_up(tmp_path, ["b@1"]) == []
    assert checkpoint.exists()


def test_a_checkpoint_that_cannot_be_removed_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    killed_run(tmp_path, "killed", ["a@1"])
    monkeypatch.setattr(LocalFileSystem, "rm", refuse)
    assert clean_up(tmp_path, ["b@1"]) == ["killed"]
    assert "checkpoints cannot be removed" in caplog.text
