"""Blue and green: a new model is built beside the old one, goes on after a kill, and is switched in by one commit."""

from pathlib import Path

import pytest

from sbert.table.delta import Table
from sbert.table.verify import verify_table
from tests.support.tables import killed_after, objects_apart, read, rows, update, write
from tests.support.tiny_models import save_tiny


def test_an_interrupted_switch_goes_on_and_readers_never_see_two_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = save_tiny(tmp_path / "model"), save_tiny(tmp_path / "other", seed=1)
    for number in range(4):
        write(tmp_path / f"raw/{number}.jsonl", rows(number * 5, 5))
    raw, table, settings = tmp_path / "raw", str(tmp_path / "table"), objects_apart()
    update(raw, table, model=model, settings=settings)
    before = read(table)
    reader = Table.open(table).scan()

    with killed_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        update(raw, table, model=other, settings=settings)
    assert (Table.open(table).version, Table.open(table).encoder.model) == (0, model)
    assert read(table).equals(before)
    assert update(raw, table, settings=settings)[0].is_empty  # the nightly run in between keeps the old encoder

    plan, _, version, counts = update(raw, table, model=other, settings=settings)
    assert (len(plan.resume), len(plan.build), version, counts.num_texts_encoded) == (2, 2, 1, 10)
    assert (Table.open(table).encoder.model, Table.open(table).num_rows) == (other, 20)
    assert verify_table(table).findings == []  # one encoder in all footers
    assert verify_table(table, 0).findings == []
    assert reader.collect().sort("source", "id").equals(before)  # a reader that began before the switch goes on
    scratch = str(tmp_path / "scratch")
    update(raw, scratch, model=other, settings=settings)
    assert read(table).drop("embedding").equals(read(scratch).drop("embedding"))
