"""A derived table stays in step with its embeddings table split by split."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sbert.derived.build import Deriver, derivation_context
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import RowJob, row_vectors
from sbert.derived.plan import plan_derived
from sbert.derived.run import derive
from sbert.errors import CommitConflictError, NotATableError, SettingsError, TableError
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.rollback import roll_back
from sbert.table.shards import ShardSettings
from tests.support.derived_reports import shard_counts
from tests.support.earlier_records import record_settings
from tests.support.made_tables import State, make_version


class LengthJob(RowJob):
    """Says how long a row's kept text is."""

    name: ClassVar[str] = "length"
    factor: int = 1

    def columns(self, table: Table) -> pa.Schema:
        return pa.schema([pa.field("length", pa.int64())])

    def input_columns(self, table: Table) -> list[str]:
        return ["kind"]

    def function(self, table: Table) -> Callable[[pa.Table], pa.Table]:
        def lengths(rows: pa.Table) -> pa.Table:
            values = pc.multiply(pc.cast(pc.utf8_length(rows["kind"]), pa.int64()), self.factor)
            return pa.table({"length": pa.chunked_array(values)})

        return lengths


class DyingJob(LengthJob):
    """Dies after some splits."""

    name: ClassVar[str] = "length"
    num_splits: int = 0

    def fingerprint(self, table: Table) -> str:
        return LengthJob(factor=self.factor).fingerprint(table)

    def open(self, table: Table, out_uri: str) -> Any:
        real, lock, left = super().open(table, out_uri), threading.Lock(), [self.num_splits]

        def function(split: Any) -> Any:
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return real(split)

        return function


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "table"), str(tmp_path / "out")


def state(**sizes: int) -> State:
    return {f"s3://raw/{name}.jsonl": {str(row): row for row in range(size)} for name, size in sizes.items()}


def output(out: str) -> dict[tuple[str, str], Any]:
    rows = DerivedTable.open(out).scan().collect()
    return {(row["source"], row["id"]): row["length"] for row in rows.to_dicts()}


def expected(table: str, factor: int = 1) -> dict[tuple[str, str], Any]:
    rows = Table.open(table).scan().collect().with_columns(length=pl.col("kind").str.len_chars() * factor)
    return {(row["source"], row["id"]): row["length"] for row in rows.to_dicts()}


def test_a_first_run_says_something_about_every_row(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5))
    report = derive(LengthJob(), table, out)
    assert shard_counts(report) == {"built": 2, "kept": 0, "dropped": 0, "resumed": 0}
    assert report.version == 0
    assert report.table_version == 0
    assert report.num_rows == 25
    assert report.num_rows_built == 25
    assert output(out) == expected(table)
    info = DerivedTable.open(out).info
    assert info.table_version == 0
    assert info.encoder == "model 0"
    assert info.encoder_fingerprint == f"{0:064d}"


def test_a_second_run_does_nothing(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20))
    derive(LengthJob(), table, out)
    report = derive(LengthJob(), table, out)
    assert shard_counts(report) == {"built": 0, "kept": 1, "dropped": 0, "resumed": 0}
    assert report.version == 0


class FixedNameJob(LengthJob):
    """Its fingerprint does not hash the settings."""

    name: ClassVar[str] = "fixed"
    added: str = "default"

    def fingerprint(self, table: Table) -> str:
        return f"{self.factor}|{table.encoder.fingerprint}"


def test_a_setting_that_a_release_added_is_no_change(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20))
    derive(FixedNameJob(), table, out)
    assert record_settings(out, lambda settings: {"factor": settings["factor"]}) == 1
    report = derive(FixedNameJob(), table, out)
    assert report.version == 1
    assert report.num_shards_built == 0
    assert derive(FixedNameJob(added="other"), table, out).version == 2  # said anew: it is another setting
    assert DerivedTable.open(out).info.settings == {"factor": 1, "added": "other"}
    assert record_settings(out, lambda settings: settings | {"unheard_of": 1}) == 3
    assert derive(FixedNameJob(added="other"), table, out).version == 4


def test_only_splits_that_changed_are_derived_again(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5, c=4))
    derive(LengthJob(), table, out)
    make_version(table, state(a=20, b=6, d=1))
    report = derive(LengthJob(), table, out)
    assert shard_counts(report) == {"built": 2, "kept": 1, "dropped": 2, "resumed": 0}
    assert report.num_rows_built == 7
    assert output(out) == expected(table)


def test_after_a_compaction_nothing_is_derived_again(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5, c=4))
    derive(LengthJob(), table, out)
    compact_table(table, ShardSettings(shard_rows=100))
    assert len(Table.open(table).shards()) == 1
    assert shard_counts(derive(LengthJob(), table, out)) == {"built": 0, "kept": 3, "dropped": 0, "resumed": 0}
    make_version(table, state(a=20, b=5, c=4, d=3))
    assert output(out) | {} == output(out)
    derive(LengthJob(), table, out)
    assert output(out) == expected(table)


def test_other_settings_and_another_encoder_replace_everything_in_one_commit(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5))
    derive(LengthJob(), table, out)
    report = derive(LengthJob(factor=2), table, out)
    assert shard_counts(report) == {"built": 2, "kept": 0, "dropped": 2, "resumed": 0}
    assert report.version == 1
    assert output(out) == expected(table, factor=2)
    make_version(table, state(a=20, b=5), encoder_number=1)
    report = derive(LengthJob(factor=2), table, out)
    assert report.num_shards_built == 2
    assert DerivedTable.open(out).info.encoder == "model 1"
    assert DerivedTable.open(out, 1).info.encoder == "model 0"


def test_a_run_that_dies_is_resumed_from_its_finished_splits(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5, c=4))
    with pytest.raises(KeyboardInterrupt):
        derive(DyingJob(num_splits=2), table, out)
    with pytest.raises(NotATableError):
        DerivedTable.open(out)
    report = derive(LengthJob(), table, out)
    assert shard_counts(report) == {"built": 1, "kept": 0, "dropped": 0, "resumed": 2}
    assert output(out) == expected(table)


def test_a_rollback_of_the_embeddings_table_is_followed(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5))
    derive(LengthJob(), table, out)
    make_version(table, state(a=20, b=9))
    derive(LengthJob(), table, out)
    roll_back(table)
    derive(LengthJob(), table, out)
    assert output(out) == expected(table)
    assert len(output(out)) == 25


def test_a_run_that_loses_the_race_plans_again(places: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from sbert.derived import run as library

    table, out = places
    make_version(table, state(a=20, b=5))
    real, lost = library.commit_derived, []

    def commit(*args: Any, **kwargs: Any) -> int:
        if not lost:
            lost.append(1)
            raise CommitConflictError("another writer committed first")
        return real(*args, **kwargs)

    monkeypatch.setattr(library, "commit_derived", commit)
    report = derive(LengthJob(), table, out)
    assert report.num_rows_built == 25  # the second attempt takes over what the first one built
    assert shard_counts(report) == {"built": 2, "kept": 0, "dropped": 0, "resumed": 0}
    assert output(out) == expected(table)


def test_a_function_that_loses_rows_publishes_nothing(places: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    table, out = places
    make_version(table, state(a=20))
    real = LengthJob.open
    monkeypatch.setattr(
        LengthJob, "open", lambda self, *args: lambda split: (rows.slice(1) for rows in real(self, *args)(split))
    )
    with pytest.raises(TableError, match="made 19 rows for a split of 20"):
        derive(LengthJob(), table, out)
    with pytest.raises(NotATableError):
        DerivedTable.open(out)


def test_a_folder_that_belongs_to_something_else_is_refused(places: tuple[str, str], tmp_path: Path) -> None:
    table, out = places
    make_version(table, state(a=20))
    with pytest.raises(SettingsError, match="needs a folder of its own"):
        derive(LengthJob(), table, table)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(NotATableError, match=r"not empty \(1 entries, first: notes.txt\)"):
        derive(LengthJob(), table, str(other))
    derive(LengthJob(), table, out)
    monkey = type("OtherJob", (LengthJob,), {"name": "other", "__annotations__": {"name": ClassVar[str]}})
    with pytest.raises(TableError, match="belongs to the job length, not to other"):
        derive(monkey(), table, out)


def test_a_new_version_without_new_rows_is_named_and_nothing_is_built(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5))
    derive(LengthJob(), table, out)
    compact_table(table, ShardSettings(shard_rows=100))
    report = derive(LengthJob(), table, out)
    assert report.num_rows_built == 0
    assert report.version == 1
    assert report.table_version == 1
    assert DerivedTable.open(out).info.table_version == 1
    assert output(out) == expected(table)
    assert derive(LengthJob(), table, out).version == 1


def test_a_job_that_reads_a_column_that_the_table_lacks_is_refused_before_any_work(places: tuple[str, str]) -> None:
    class TextJob(LengthJob):
        name: ClassVar[str] = "text"

        def input_columns(self, table: Table) -> list[str]:
            return ["text"]

    table, out = places
    make_version(table, state(a=20))
    with pytest.raises(SettingsError, match=r"job text reads the columns text, the table has id, .*--keep-columns"):
        derive(TextJob(), table, out)
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("output_of", "message"),
    [
        (lambda rows: pa.table({"size": pa.nulls(len(rows))}), r"returned the columns size, columns\(\) names length"),
        (lambda rows: pa.table({"length": pa.nulls(len(rows) - 1)}), "returned 19 rows for a block of 20"),
    ],
)
def test_a_function_that_returns_something_else_is_an_error_that_says_what(
    places: tuple[str, str], monkeypatch: pytest.MonkeyPatch, output_of: Callable[[pa.Table], pa.Table], message: str
) -> None:
    table, out = places
    make_version(table, state(a=20))
    monkeypatch.setattr(LengthJob, "function", lambda self, table: output_of)
    with pytest.raises(TableError, match=message):
        derive(LengthJob(), table, out)


def test_a_job_may_read_vectors_and_depend_on_a_file(places: tuple[str, str]) -> None:
    class NormJob(RowJob):
        name: ClassVar[str] = "norm"
        labels: str = ""

        def columns(self, table: Table) -> pa.Schema:
            return pa.schema([pa.field("norm", pa.float32())])

        def inputs(self) -> list[str]:
            return [Path(self.labels).read_text()]

        def function(self, table: Table) -> Callable[[pa.Table], pa.Table]:
            return lambda rows: pa.table({"norm": np.linalg.norm(row_vectors(rows, table), axis=1)})

    table, out = places
    make_version(table, state(a=20))
    labels = Path(table).parent / "labels"
    labels.write_text("one")
    job = NormJob(labels=str(labels))
    derive(job, table, out)
    assert DerivedTable.open(out).scan().collect()["norm"].to_list() == pytest.approx([1.0] * 20)
    assert derive(job, table, out).num_rows_built == 0
    labels.write_text("two")
    assert derive(job, table, out).num_rows_built == 20


def test_a_worker_takes_over_what_an_attempt_finished(places: tuple[str, str]) -> None:
    table, out = places
    make_version(table, state(a=20, b=5))
    plan = plan_derived(LengthJob(), table, out, "run")
    context = derivation_context(LengthJob(), plan, "run").model_copy(update={"worker_threads": 1})
    (first, second) = pickle.loads(pickle.dumps(plan.build))
    deriver = Deriver(pickle.loads(pickle.dumps(context)))
    record = deriver.build(first)
    again, other = deriver.build_group((first, second), attempt=2)
    assert again == record
    assert other.fingerprint == second.fingerprint
    deriver.stop.set()
    with pytest.raises(InterruptedError):
        deriver.build(second)
