"""Blue and green: a new model is built beside the old one, goes on after a kill, and is switched in by one commit."""

from pathlib import Path

import pytest

from sbert.table.delta import Table
from sbert.table.verify import verify_table
from tests.support.refreshing import refreshed
from tests.support.tables import killed_after, objects_apart, read, write_objects
from tests.support.tiny_models import save_tiny


def test_an_interrupted_switch_goes_on_and_readers_never_see_two_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = save_tiny(tmp_path / "model"), save_tiny(tmp_path / "other", seed=1)
    write_objects(tmp_path / "raw", 4, 5)
    raw, table, settings = tmp_path / "raw", str(tmp_path / "table"), objects_apart()
    refreshed(raw, table, model=model, settings=settings)
    before = read(table)
    reader = Table.open(table).scan()

    with killed_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        refreshed(raw, table, model=other, settings=settings)
    assert Table.open(table).version == 0
    assert Table.open(table).encoder.model == model
    assert read(table).equals(before)
    assert refreshed(raw, table, settings=settings).plan.is_empty  # the nightly run in between keeps the old encoder

    outcome = refreshed(raw, table, model=other, settings=settings)
    assert outcome.version == 1
    assert outcome.report.num_splits_resumed == outcome.report.num_splits_built == 2
    assert outcome.report.num_texts_encoded == 10
    assert Table.open(table).encoder.model == other
    assert Table.open(table).num_rows == 20
    assert verify_table(table).findings == []  # one encoder in all footers
    assert verify_table(table, 0).findings == []
    assert reader.collect().sort("source", "id").equals(before)  # a reader that began before the switch goes on
    scratch = str(tmp_path / "scratch")
    refreshed(raw, scratch, model=other, settings=settings)
    assert read(table).drop("embedding").equals(read(scratch).drop("embedding"))
