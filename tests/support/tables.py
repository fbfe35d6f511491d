"""Small corpora and tables, made by the library alone: no Prefect run for what needs none."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from sbert.refresh.build import SplitBuilder
from sbert.refresh.job import RefreshSettings
from sbert.refresh.plan import Plan
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.table_diff import TableDiff
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tiny_models import WORDS

Rows = list[dict[str, object]]


def texts(first: int, count: int) -> list[str]:
    """Return `count` different texts; the words of a text follow from its number."""
    return [
        " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(3 + number % 9)) + f" {number}"
        for number in range(first, first + count)
    ]


def rows(first: int, count: int) -> Rows:
    """Return `count` rows with id, text and kind."""
    return [
        {"id": str(first + at), "text": text, "kind": "even" if at % 2 == 0 else "odd"}
        for at, text in enumerate(texts(first, count))
    ]


def write(path: Path, lines: Rows) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_objects(folder: Path, num_objects: int, num_rows: int, *, prefix: str = "") -> None:
    """Write objects of consecutive rows: ``0.jsonl``, ``1.jsonl``, …, each with the prefix before its name."""
    for number in range(num_objects):
        write(folder / f"{prefix}{number}.jsonl", rows(number * num_rows, num_rows))


def read(table_uri: object, version: int | None = None) -> pl.DataFrame:
    """Return the table's rows, ordered by key."""
    return Table.open(str(table_uri), version).scan().collect().sort("source", "id")


def objects_apart(**other: object) -> RefreshSettings:
    """Return settings under which every object is its own split."""
    return RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}, **other})


class Done(NamedTuple):
    """The outcome of a refresh."""

    plan: Plan
    diff: TableDiff
    version: int
    report: RefreshReport


def update(raw: object, table: object, **options: Any) -> Done:
    """Refresh by the library, and return plan, difference, version and report."""
    outcome = refreshed(raw, table, **options)
    return Done(outcome.plan, outcome.diff, outcome.version, outcome.report)


@contextlib.contextmanager
def killed_after(monkeypatch: pytest.MonkeyPatch, num_splits: int) -> Iterator[None]:
    """Raise KeyboardInterrupt when more than `num_splits` splits are built."""
    real, built = SplitBuilder.build, []

    def build(self: SplitBuilder, *args: object) -> object:
        if len(built) == num_splits:
            raise KeyboardInterrupt
        built.append(args)
        return real(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SplitBuilder, "build", build)
        yield
