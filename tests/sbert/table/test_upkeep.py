"""Upkeep as one call of the library: compact, vacuum, verify."""

from pathlib import Path

import pytest

from sbert.errors import VerificationError
from sbert.table.delta import Table
from sbert.table.upkeep import UpkeepReport, UpkeepSteps, upkeep
from tests.support.refreshing import refreshed
from tests.support.tables import objects_apart, write_objects


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    write_objects(tmp_path / "raw", 3, 10)
    refreshed(tmp_path / "raw", tmp_path / "table", model, objects_apart())
    return str(tmp_path / "table")


def test_all_three_steps_are_done_in_order(table: str) -> None:
    report = upkeep(table, retention_hours=0)
    assert report.compaction is not None
    assert report.compaction.num_shards == 1
    assert report.vacuum is not None
    assert report.vacuum.num_shards == 3
    assert report.verification is not None
    assert report.verification.num_rows == 30
    assert list(report.describe()) == ["compact", "vacuum", "verify"]


def test_a_step_that_is_switched_off_is_not_done(table: str) -> None:
    assert upkeep(table, compact=False, vacuum=False, verify=False) == UpkeepReport(table_uri=table)
    assert Table.open(table).version == 0


def test_a_table_that_is_not_sound_is_shown_before_the_error(table: str) -> None:
    (first, *_) = Table.open(table).shards()
    Path(table, first.name).write_bytes(b"torn")
    shown: list[UpkeepReport] = []
    with pytest.raises(VerificationError, match=f"findings: {first.name}"):
        upkeep(table, compact=False, vacuum=False, steps=UpkeepSteps(show=shown.append))
    assert [report.verification is not None for report in shown] == [True]
