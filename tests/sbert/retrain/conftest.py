"""A retraining with a search of settings, for the tests of searches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sbert.labels.label_kinds import LabelKind
from sbert.retrain.settings import RetrainJob, RetrainSettings
from tests.sbert.retrain.test_run import QUICK
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

SEARCH_SPACE = {"learning_rate": {"low": 5e-4, "high": 8e-3, "log": True}, "batch_size": [8, 16]}


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., RetrainJob]:
    toy_rows(LabelKind.SCORED_PAIRS, 240).write_ndjson(tmp_path / "labels.jsonl")
    base = save_tiny(tmp_path / "base")

    def made(models_uri: str = str(tmp_path / "models"), **asked: Any) -> RetrainJob:
        settings = {**QUICK, "search": {"trials": 3, "space": SEARCH_SPACE, **asked}}
        return RetrainJob(
            labels_uri=str(tmp_path / "labels.jsonl"),
            models_uri=models_uri,
            base=base,
            settings=RetrainSettings.model_validate(settings),
        )

    return made
