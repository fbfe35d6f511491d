"""A table of parts holds what the job wants now, and computes only the parts that changed."""

from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pytest

from sbert.derived.any_table import open_any, roll_back_any, vacuum_any, verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import RowJob
from sbert.derived.part_table import PartJob, Parts, derive_parts
from sbert.derived.run import derive
from sbert.errors import TableError
from sbert.table.delta import Table
from tests.support.derived_reports import shard_counts
from tests.support.earlier_records import record_settings
from tests.support.made_tables import make_version


class SizesJob(PartJob):
    """Counts the rows of each source: a part for each."""

    name: ClassVar[str] = "sizes"
    scale: int = 1

    def columns(self, table: Table) -> pa.Schema:
        return pa.schema([pa.field("of", pa.string()), pa.field("size", pa.int64())])

    def parts(self, table: Table, before: DerivedTable | None) -> Parts:
        counted = table.scan().group_by("source").len().sort("source").collect()
        sizes = dict(zip(counted["source"], counted["len"], strict=True))

        def build(name: str) -> list[pa.Table]:
            return [pa.table({"of": [name], "size": [sizes[name] * self.scale]})] if sizes[name] > 1 else []

        return Parts({name: str(size) for name, size in sizes.items()}, build)


class DyingJob(SizesJob):
    """Dies at one part."""

    dies_at: str = ""

    def fingerprint(self, table: Table) -> str:
        return SizesJob(scale=self.scale).fingerprint(table)

    def parts(self, table: Table, before: DerivedTable | None) -> Parts:
        real = super().parts(table, before)

        def build(name: str) -> object:
            if name == self.dies_at:
                raise KeyboardInterrupt
            return real.build(name)

        return Parts(real.names, build)  # type: ignore[arg-type]


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "table"), str(tmp_path / "out")


def fill(table: str, **sizes: int) -> None:
    make_version(table, {name: {str(row): row for row in range(size)} for name, size in sizes.items()})


def output(out: str) -> dict[str, int]:
    rows = DerivedTable.open(out).scan().collect()
    return dict(zip(rows["of"], rows["size"], strict=True))


def test_only_changed_parts_are_built_and_those_that_left_are_dropped(places: tuple[str, str]) -> None:
    table, out = places
    fill(table, a=3, b=4, c=5)
    assert shard_counts(derive_parts(SizesJob(), *places)) == {"built": 3, "kept": 0, "dropped": 0, "resumed": 0}
    fill(table, a=3, b=7, d=2)
    report = derive_parts(SizesJob(), *places)
    assert shard_counts(report) == {"built": 2, "kept": 1, "dropped": 2, "resumed": 0}
    assert report.num_rows == 3
    assert report.table_version == 1
    assert output(out) == {"a": 3, "b": 7, "d": 2}
    assert verify_any(out).findings == []
    described = open_any(out)
    assert isinstance(described, DerivedTable)
    assert described.info.parts is not None
    assert described.info.parts.num_parts == 3
    assert described.info.table_version == 1


def test_a_run_without_changes_commits_nothing_and_other_settings_build_everything(places: tuple[str, str]) -> None:
    fill(places[0], a=3, b=4)
    assert derive_parts(SizesJob(), *places).version == 0
    assert derive_parts(SizesJob(), *places).version == 0
    assert shard_counts(derive_parts(SizesJob(scale=10), *places)) == {
        "built": 2,
        "kept": 0,
        "dropped": 2,
        "resumed": 0,
    }
    assert output(places[1]) == {"a": 30, "b": 40}


def test_a_setting_that_a_release_added_is_no_change(places: tuple[str, str]) -> None:
    fill(places[0], a=3, b=4)
    job = DyingJob(dies_at="never")
    derive_parts(SizesJob(), *places)
    assert record_settings(places[1], lambda _: {"scale": 1}) == 1
    assert derive_parts(DyingJob(), *places).version == 1  # dies_at has its default
    assert derive_parts(job, *places).version == 2


def test_a_killed_run_goes_on_with_the_parts_that_it_finished(places: tuple[str, str]) -> None:
    fill(places[0], a=3, b=4, c=5)
    with pytest.raises(KeyboardInterrupt):
        derive_parts(DyingJob(dies_at="c"), *places)
    report = derive_parts(SizesJob(), *places)
    assert report.num_shards_built == 1
    assert report.num_shards_resumed == 2
    assert output(places[1]) == {"a": 3, "b": 4, "c": 5}


def test_a_part_without_rows_is_built_once(places: tuple[str, str]) -> None:
    fill(places[0], a=3, empty=1)
    derive_parts(SizesJob(), *places)
    again = derive_parts(SizesJob(), *places)
    assert again.version == 0
    assert again.num_rows_built == 0
    assert output(places[1]) == {"a": 3}
    assert verify_any(places[1]).findings == []


def test_vacuum_and_rollback_work_as_for_other_derived_tables(places: tuple[str, str]) -> None:
    table, out = places
    fill(table, a=3, b=4)
    derive_parts(SizesJob(), *places)
    fill(table, a=3, b=5)
    derive_parts(SizesJob(), *places)
    roll_back_any(out)
    assert output(out) == {"a": 3, "b": 4}
    assert verify_any(out).findings == []
    derive_parts(SizesJob(), *places)
    assert vacuum_any(out, retention_hours=0, apply=True).num_shards == 1
    assert output(out) == {"a": 3, "b": 5}


def test_a_lost_part_is_found(places: tuple[str, str]) -> None:
    fill(places[0], a=3, b=4)
    derive_parts(SizesJob(), *places)
    (Path(places[1]) / DerivedTable.open(places[1]).shards()[0].name).unlink()
    assert len(verify_any(places[1]).findings) == 1


class LengthJob(RowJob):
    """Says something about each row."""

    name: ClassVar[str] = "length"

    def columns(self, table: Table) -> pa.Schema:
        return pa.schema([pa.field("length", pa.int64())])

    def function(self, table: Table) -> object:  # type: ignore[override]
        return lambda rows: pa.table({"length": pl.Series([1] * len(rows)).to_arrow()})


def test_the_output_of_another_job_is_refused(places: tuple[str, str]) -> None:
    fill(places[0], a=3)
    derive(LengthJob(), *places)
    with pytest.raises(TableError, match="belongs to the job length, not to sizes"):
        derive_parts(SizesJob(), *places)
