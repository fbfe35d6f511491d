"""Small corpora and tables, made by the library alone: no Prefect run for what needs none."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sbert.encoder.process_cache import load_encoder
from sbert.refresh.build import SplitBuilder, build_context
from sbert.refresh.deletion_limit import check_losses
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.publish import publish
from sbert.refresh.table_diff import Changes, settle
from sbert.rows.counts import RowCounts
from sbert.table.delta import Table
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


def read(table_uri: object, version: int | None = None) -> pl.DataFrame:
    """Return the table's rows, ordered by key."""
    return Table.open(str(table_uri), version).scan().collect().sort("source", "id")


def objects_apart(**other: object) -> RefreshSettings:
    """Return settings under which every object is its own split."""
    return RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}, **other})


def update(raw: object, table: object, **options: object) -> tuple[Plan, Changes, int, RowCounts]:
    """Do one job as the flow does, in this thread; give the plan, the changes, the version and the counts."""
    job = RefreshJob(raw_uri=str(raw), table_uri=str(table), **options)  # type: ignore[arg-type]
    run_id = uuid.uuid4().hex
    plan = make_plan(job)
    check_losses(plan.table_uri, plan.losses, job.settings.guard)
    context = build_context(plan, job.settings, run_id)
    builder = SplitBuilder(context, load_encoder(context.encoder_spec))
    try:
        results = [builder.build(planned) for planned in plan.build]
    finally:
        builder.close()
    changes = settle(plan, results, run_id)
    counts = RowCounts.total(record.counts for record in changes.add if record.run_id == run_id)
    version = publish(plan, changes, job.settings, counts, {"run_id": run_id})
    return plan, changes, version, counts


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
