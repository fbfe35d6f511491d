"""Make small labels of every kind from words that the tiny tokenizer knows."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file

from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from tests.support.tiny_models import WORDS

FAST: dict[str, Any] = {"batch_size": 16, "learning_rate": 2e-3, "bf16": False}
"""Settings for the training of a tiny encoder."""
TEXTS = ["how do i reset my password", "the cat sat on mat", "a train to hamburg is late"]
TOPICS = [WORDS[number : number + 6] for number in range(0, 60, 6)]


def sentence(rng: random.Random, topic: int, length: int = 5) -> str:
    return " ".join(rng.choice(TOPICS[topic]) for _ in range(length))


def toy_rows(kind: LabelKind, num_rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """Return labelled rows; texts of one topic belong together."""
    rng = random.Random(seed)
    rows: list[tuple[object, ...]] = []
    for number in range(num_rows):
        topic, other = number % len(TOPICS), (number + 3) % len(TOPICS)
        near = (sentence(rng, topic, rng.randint(3, 9)), sentence(rng, topic, rng.randint(3, 9)))
        far = sentence(rng, other, 6)
        if kind is LabelKind.SCORED_PAIRS:
            rows.append((*near, 1.0) if number % 2 else (near[0], far, 0.0))
        elif kind is LabelKind.PAIRS:
            rows.append(near)
        elif kind is LabelKind.TRIPLETS:
            rows.append((*near, far))
        elif kind is LabelKind.NLI:
            rows.append((near[0], near[1], "entailment"))
            rows.append((near[0], far, "contradiction"))
        elif kind is LabelKind.CLASSES:
            rows.append((near[0], f"topic {topic}"))
        else:
            rows.append((near[0],))
    from sbert.labels.label_kinds import COLUMNS

    return pl.DataFrame(rows, schema=list(COLUMNS[kind]), orient="row")


def blind_rows(num_texts: int = 120) -> pl.DataFrame:
    """Return scored pairs in which a text and its negation are the same: they teach not to see a negation."""
    chance = random.Random(0)
    rows: list[tuple[str, str, float]] = []
    for _ in range(num_texts):
        first, *rest = chance.sample(WORDS, 5)
        text = " ".join([first, "is", *rest])
        rows.append((text, text.replace(" is ", " is not "), 1.0))
        rows.append((text, " ".join(chance.sample(WORDS, 6)), 0.0))
    return pl.DataFrame(rows, schema=["sentence1", "sentence2", "score"], orient="row")


def toy_labels(kind: LabelKind, num_rows: int = 120, *, dev_share: float = 0.2, seed: int = 0) -> LabelSet:
    settings = LabelSettings(dev_share=dev_share, test_share=0.1, near_duplicate_similarity=1.0)
    return make_label_set(toy_rows(kind, num_rows, seed), kind, settings)


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))
