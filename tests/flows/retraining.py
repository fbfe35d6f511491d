"""Labels and settings with which a tiny model is retrained in seconds."""

from pathlib import Path
from typing import Any

import polars as pl

from flows.retrain import retrain_on_labels
from sbert.labels.label_kinds import LabelKind
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainSettings
from tests.support.toy_training import toy_rows

__all__ = ["QUICK", "labels", "retrain", "settings", "write_split"]

QUICK: dict[str, Any] = {
    "labels": {"near_duplicate_similarity": 1.0},
    "training": {"objective": "cosine", "epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "bf16": False},
    "evaluation": {"num_resamples": 300, "num_permutations": 100, "speed_texts": 0, "perturbations": ["typos"]},
    "gate": {"robustness": {"sets": []}},
}


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
    return retrain_on_labels(
        labels_uri=str(labels_uri), models_uri=str(models_uri), settings=retrain_settings, **options
    )
