"""Rollback, vacuum and verify take a table of either kind."""

from pathlib import Path

import pytest

from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.any_table import open_any, roll_back_any, vacuum_any, verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import DerivedTableError, SettingsError, TableError
from sbert.table.delta import Table, find_table
from sbert.table.lease import hold_lease
from tests.support.made_tables import make_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    """Make an embeddings table and a derived table, each of two versions."""
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    for num_rows in (20, 30):
        make_version(table, {"a": {str(row): row for row in range(num_rows)}, "b": {"x": 77}})
        derive(NeighboursJob(k=2), table, out)
    return table, out


def test_each_kind_is_opened_as_what_it_is(places: tuple[str, str]) -> None:
    table, out = places
    assert isinstance(open_any(table), Table)
    assert isinstance(open_any(out, 0), DerivedTable)
    with pytest.raises(DerivedTableError, match="this table is derived, by the job neighbours: name the embeddings"):
        Table.open(out)
    with pytest.raises(DerivedTableError):
        find_table(out)


def test_a_rollback_shows_the_rows_of_the_version_before(places: tuple[str, str]) -> None:
    table, out = places
    before = DerivedTable.open(out, 0).scan().collect()
    done = roll_back_any(out)
    assert done.version == 2
    assert done.restored == 0
    assert done.num_rows == 21
    assert done.num_rows_before == 31
    assert DerivedTable.open(out).scan().collect().equals(before)
    assert DerivedTable.open(out).info.table_version == 0
    assert verify_any(out).findings == []
    with pytest.raises(SettingsError, match="shows the rows of version 0 already"):
        roll_back_any(out, 0)
    derive(NeighboursJob(k=2), table, out)
    assert DerivedTable.open(out).num_rows == 31
    assert roll_back_any(table).num_rows == 21


def test_a_rollback_to_vacuumed_shards_is_refused(places: tuple[str, str]) -> None:
    _, out = places
    vacuum_any(out, retention_hours=0, apply=True)
    with pytest.raises(TableError, match="version 0 cannot be restored: 2 of its 2 shards are gone"):
        roll_back_any(out)


def test_vacuum_removes_shards_and_records_that_no_version_needs(places: tuple[str, str]) -> None:
    table, out = places
    listed = vacuum_any(out, retention_hours=0)
    assert not listed.applied
    assert listed.num_shards == 2
    assert len(listed.files) == 4
    assert vacuum_any(out, retention_hours=0, apply=True).files == listed.files
    assert len(list((Path(out) / "_splits").iterdir())) == 2
    assert verify_any(out).findings == []
    assert vacuum_any(out, retention_hours=0, apply=True).files == []
    assert vacuum_any(table, retention_hours=0).num_shards == 1
    assert vacuum_any(out, retention_hours=24).files == []


def test_vacuum_leaves_the_splits_of_a_run_at_work(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, {"c": {"y": 3}})
    job = NeighboursJob(k=2)
    from sbert.derived.build import Deriver, derivation_context
    from sbert.derived.plan import plan_derived

    plan = plan_derived(job, table, out, "run")
    with hold_lease(out, "run", "neighbours"):
        Deriver(derivation_context(job, plan, "run")).build(plan.build[0])
        vacuum_any(out, retention_hours=0, apply=True)
    assert derive(job, table, out).num_shards_resumed == 1


def test_an_earlier_version_is_verified_against_the_version_that_it_names(places: tuple[str, str]) -> None:
    _, out = places
    verified = verify_any(out, 0)
    assert verified.version == 0
    assert verified.num_rows == 21
    assert verified.num_shards == 2
    assert verified.findings == []
