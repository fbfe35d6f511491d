"""Labels whose texts end in a number: the vector, the class and the group of each follow from it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification import heads
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSettings
from sbert.derived.derived_table import DerivedTable
from sbert.table.delta import Table
from tests.support.made_tables import unit_vector

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2)
SETTINGS = ClassificationSettings(head=QUICK)


def give_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each labelled text the vector of the number at its end; the made tables have no encoder."""

    def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)

    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)


def rows(first: int, count: int) -> dict[str, int]:
    return {str(number): number for number in range(first, first + count)}


def text_of(number: int) -> str:
    """Return a text that is like no other."""
    return f"{hashlib.sha256(str(number).encode()).hexdigest()} {number}"


def sign_of(number: int) -> str:
    return "up" if unit_vector(number)[0] > 0 else "down"


def write_labels(folder: Path, numbers: range, *, wrong: bool = False, name: str = "labels.jsonl") -> str:
    folder.mkdir(exist_ok=True)
    other = {"up": "down", "down": "up"}
    (folder / name).write_text(
        "".join(
            json.dumps(
                {
                    "text": text_of(number),
                    "label": other[sign_of(number)] if wrong else sign_of(number),
                    "tone": "warm" if unit_vector(number)[1] > 0 else "cold",
                    "region": "north" if number % 2 else "south",
                    "split": "test" if number % 4 == 0 else "train",
                }
            )
            + "\n"
            for number in numbers
        )
    )
    return str(folder)


def run(table: str, labels: str, out: Path, settings: ClassificationSettings = SETTINGS) -> ClassificationReport:
    return classify(table, labels, str(out), settings)


def output(out: Path) -> pl.DataFrame:
    frame = DerivedTable.open(str(out)).scan().sort("source", "id").collect()
    assert isinstance(frame, pl.DataFrame)
    return frame
