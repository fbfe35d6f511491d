"""A table whose encoder was tuned together with a classifier, with the record of what it learned from, and labels."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sbert.apply.classification.head import HEADS, Head
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.training.classifier_files import NAMES_FILE, WEIGHTS, ClassifierFiles
from sbert.training.learned_texts import LearnedTexts
from tests.support.tables import rows, texts, update, write
from tests.support.tiny_models import save_tiny

__all__ = ["CLASSES", "NUM_LABELS", "NUM_LEARNED", "TEXTS", "Place"]

NUM_LABELS, NUM_LEARNED = 240, 120
TEXTS = texts(0, NUM_LABELS)
CLASSES = ("down", "flat", "up")
HEAD: dict[str, Any] = {"kinds": ["linear"], "strengths": [10], "num_folds": 2, "min_unseen_rows": 50, "words": False}


class Place:
    """A table whose encoder brings a classifier, and labels that the classifier gives to all texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = save_tiny(folder / "model")
        vectors_ND = SentenceEncoder.from_pretrained(self.model, device="cpu").encode(TEXTS, side=Side.DOCUMENT)
        spread = np.linalg.svd(vectors_ND - vectors_ND.mean(axis=0))[2][:2]  # the two main directions of the texts
        weight_CD = np.stack([spread[0], spread[1], -spread[0] - spread[1]]).astype(np.float32)
        bias_C = (-vectors_ND.mean(axis=0) @ weight_CD.T).astype(np.float32)
        self.classifier = ClassifierFiles(CLASSES, 50 * weight_CD, 50 * bias_C)
        self.labels = [CLASSES[at] for at in (vectors_ND @ weight_CD.T + bias_C).argmax(axis=1)]
        self.classifier.write(Path(self.model))
        self.learn(TEXTS[:NUM_LEARNED])
        self.write_labels()
        write(folder / "raw/a.jsonl", rows(1_000, 40))
        self.table = str(folder / "table")
        update(folder / "raw", self.table, model=self.model, settings={"source": {"keep_columns": ["text"]}})
        self.out = str(folder / "out")

    def learn(self, labelled: list[str], chosen_on: list[str] | None = None) -> None:
        LearnedTexts.of(
            pl.Series(labelled, dtype=pl.String), chosen_on=pl.Series(chosen_on or [], dtype=pl.String)
        ).write(Path(self.model))

    def write_labels(self, labels: list[Any] | None = None) -> None:
        """Write labels; every fourth row is held out."""
        lines: list[dict[str, object]] = [
            {"text": text, "label": label, "split": "test" if at % 4 == 0 else "train"}
            for at, (text, label) in enumerate(zip(TEXTS, labels or self.labels, strict=True))
        ]
        write(self.folder / "labels/a.jsonl", lines)

    def classify(self, out: str | None = None, more: dict[str, Any] | None = None, **head: Any) -> ClassificationReport:
        settings = {
            "labels": {"kind": "classes", "near_duplicate_similarity": 1.0},
            "head": HEAD | head,
            **(more or {}),
        }
        return classify(
            self.table, str(self.folder / "labels"), out or self.out, ClassificationSettings.model_validate(settings)
        )

    def remove(self, *names: str) -> None:
        """Remove files beside the encoder, by default its classifier."""
        for name in names or (NAMES_FILE, WEIGHTS):
            Path(self.model, name).unlink()

    def head(self, report: ClassificationReport) -> Head:
        found = HEADS.find(self.out, report.tasks[0].head.fingerprint)
        assert found is not None
        return found
