"""Progress of a training in the terminal and in the Prefect UI."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run
from rich.console import Console

import tasks.retrain
from sbert.training.result import TrainingProgress
from tasks.retrain import describe_training
from tasks.terminal import TerminalLine
from tests.support.artifacts import artifacts_of

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_training_shows_step_time_left_and_loss_in_terminal_and_ui(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = io.StringIO()
    line = TerminalLine(Console(file=written, force_terminal=True, width=120))
    steps = [
        TrainingProgress(1_500, 6_000, loss=0.25, seconds_left=185.0),
        TrainingProgress(6_000, 6_000, loss=0.125, dev=0.875, seconds_left=0.0),
    ]

    def train(_: Any, __: Any, ___: Path, show: Callable[[TrainingProgress], None]) -> None:
        for told in steps:
            show(told)

    monkeypatch.setattr(tasks.retrain, "train_candidate", train)
    monkeypatch.setattr(tasks.retrain, "terminal", line)

    @flow(name="train only")
    def train_only() -> str:
        job: Any = None
        with line.shown():
            tasks.retrain.PREFECT_STEPS.train(job, job, tmp_path)
        return str(flow_run.get_id())

    [artifact] = [each for each in artifacts_of(train_only()) if each.type == "progress"]
    assert artifact.data == 100.0
    assert artifact.description == "training step 6,000 of 6,000, loss 0.1250, dev 0.8750"
    assert "training step 6,000 of 6,000, loss 0.1250, dev 0.8750" in written.getvalue()


def test_the_time_left_comes_before_the_loss_and_a_finished_training_has_none() -> None:
    assert describe_training(TrainingProgress(1_500, 6_000, loss=0.25, seconds_left=185.0)) == [
        "training step 1,500 of 6,000",
        "3 min 05 s left",
        "loss 0.2500",
    ]
    assert describe_training(TrainingProgress(0, 6_000)) == ["training step 0 of 6,000"]
    assert describe_training(TrainingProgress(6_000, 6_000, seconds_left=0.0)) == ["training step 6,000 of 6,000"]
