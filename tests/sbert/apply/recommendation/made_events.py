"""Made items and events: users of two tastes, and items of two kinds whose vectors lie apart."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from sbert.apply.recommendation.items import Items
from sbert.vectors.precision import Float32
from tests.support.made_texts import Row, make_text_version

__all__ = ["NOW", "NUM_ITEMS", "event", "item_rows", "made_events", "made_items", "write_events", "write_items"]

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NUM_ITEMS = 40
HALF = NUM_ITEMS // 2
SOURCE = "items"


def item_vectors() -> Float32:
    """Return vectors in which the two halves lie apart."""
    vectors = np.random.default_rng(0).normal(0, 0.3, (NUM_ITEMS, 4)).astype(np.float32)
    vectors[:HALF, 0] += 2
    vectors[HALF:, 1] += 2
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def item_rows() -> list[Row]:
    """Return 40 items; 00 and 39 get no events."""
    return [(f"{number:02}", f"text {number}", vector.tolist()) for number, vector in enumerate(item_vectors())]


def made_items() -> Items:
    """Return the items without a table."""
    ids = [f"{number:02}" for number in range(NUM_ITEMS)]
    keys = pl.DataFrame({"source": [SOURCE] * NUM_ITEMS, "id": ids, "text_hash": [name.encode() * 8 for name in ids]})
    return Items(keys, item_vectors())


def event(user: str, item: int | str, at: int, kind: str = "click") -> dict[str, str]:
    """Return an event some seconds after a moment in 2023."""
    return {
        "user": user,
        "item": f"{item:02}" if isinstance(item, int) else item,
        "time": str(1_700_000_000 + at),
        "type": kind,
    }


def made_events(num_users: int = 20) -> list[dict[str, str]]:
    """Return ten events of each user: even users like the second half of the items, odd ones the first."""
    random = np.random.default_rng(0)
    return [
        event(f"u{user:02}", int(item), place)
        for user in range(num_users)
        for place, item in enumerate(random.permutation(np.arange(1, HALF) if user % 2 else np.arange(HALF, 39))[:10])
    ]


def write_items(table: Path, rows: Sequence[Row]) -> None:
    """Commit the next version of the table of items, a source for each first digit of their ids."""
    sources: dict[str, list[Row]] = {}
    for row in rows:
        sources.setdefault(f"{SOURCE}{row[0][0]}", []).append(row)
    make_text_version(str(table), sources)


def write_events(folder: Path, events: Sequence[dict[str, str]], name: str = "a") -> None:
    """Write an object of events."""
    folder.mkdir(exist_ok=True)
    pl.DataFrame(events).write_csv(folder / f"{name}.csv")
