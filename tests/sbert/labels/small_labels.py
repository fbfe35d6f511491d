"""Labels small enough to be written in a test."""

import polars as pl

from sbert.labels.settings import LabelSettings

__all__ = ["ALL", "TWENTY", "classes"]

ALL = LabelSettings(dev_share=0, test_share=0, near_duplicate_similarity=1)
"""Every row is a train row."""
TWENTY = [f"text number {word}" for word in "one two three four five six seven eight nine ten cat dog tin red mat go up at by of".split()]  # fmt: skip
"""Texts that are not near each other."""


def classes(texts: list[str], labels: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text": texts, "label": labels})
