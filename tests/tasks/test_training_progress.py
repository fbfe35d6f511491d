"""Progress of a training in the Prefect UI."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run

import tasks.retrain
from sbert.training.result import TrainingProgress
from tests.support.artifacts import artifacts_of

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_training_shows_its_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[tuple[float, str]] = []

    def train(_: Any, __: Any, ___: Path, show: Callable[[TrainingProgress], None]) -> None:
        for told in (TrainingProgress(1_500, 6_000, loss=0.25), TrainingProgress(3_000, 6_000, dev=0.875)):
            show(told)
            [artifact] = [each for each in artifacts_of(str(flow_run.get_id())) if each.type == "progress"]
            shown.append((artifact.data, artifact.description))

    monkeypatch.setattr(tasks.retrain, "train_candidate", train)

    @flow(name="train only")
    def train_only() -> None:
        job: Any = None
        tasks.retrain.PREFECT_STEPS.train(job, job, tmp_path)

    train_only()
    assert shown == [
        (25.0, "training: step 1,500 of 6,000, loss 0.2500"),
        (50.0, "training: step 3,000 of 6,000, dev 0.8750"),
    ]
