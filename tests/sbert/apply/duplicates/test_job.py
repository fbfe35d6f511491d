"""Groups of texts that say the same: what they hold, and that nights give what a full run gives."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbert.apply.duplicates import grouping
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import ColumnError, NotATableError
from sbert.table import unit_vectors
from sbert.table.delta import Table
from tests.support.made_tables import State, make_version
from tests.support.made_texts import make_text_version

NEAR = [[1.0, 0.0, 0.0], [0.99, 0.1, 0.0], [0.98, 0.0, 0.15], [0.0, 1.0, 0.0]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep vectors of small tables too, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unit_vectors, "LEAST_BYTES", 0)


def rows_of(out: str) -> pl.DataFrame:
    return DerivedTable.open(out).scan().collect().sort("source", "id")


def test_a_group_has_a_representative_that_each_row_is_similar_to(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    texts = ["the card is lost", "the card was lost", "my card got lost", "how do I pay", "the card is lost"]
    make_text_version(table, {"a": [(str(n), text, NEAR[n % 4]) for n, text in enumerate(texts)]})
    report = derive(DuplicatesJob(), table, out)
    rows = rows_of(out)
    assert report.num_rows == 5
    assert rows["num_in_group"].to_list() == [4, 4, 4, 1, 4]
    assert rows["group"].n_unique() == 2
    (leader,) = {row["id"] for row in rows["representative"].to_list()[:3]}
    assert leader in {"0", "1", "2"}  # of equal texts the row with the smaller id
    assert rows["representative"][3] == {"source": "a", "id": "3"}
    leading = np.array(NEAR[int(leader)]) / np.linalg.norm(NEAR[int(leader)])
    for row in rows.to_dicts():
        vector = np.array(NEAR[int(row["id"]) % 4])
        wanted = 1.0 if row["id"] == "3" else float(vector @ leading / np.linalg.norm(vector))
        assert row["similarity"] == pytest.approx(wanted, abs=1e-5)
    assert verify_any(out).findings == []


def test_the_check_keeps_texts_apart_that_differ_in_a_number_a_name_or_a_negation(tmp_path: Path) -> None:
    table, out, free = (str(tmp_path / name) for name in ("table", "out", "free"))
    texts = ["pay 5 euros to Anna", "pay 6 euros to Anna", "pay 5 euros to Bert", "do not pay 5 euros to Anna"]
    make_text_version(table, {"a": [(str(n), text, [1.0, 0.01 * n]) for n, text in enumerate(texts)]})
    derive(DuplicatesJob(), table, out)
    assert rows_of(out)["num_in_group"].to_list() == [1, 1, 1, 1]
    derive(DuplicatesJob(rule=PairRule(conflict_check=False)), table, free)
    assert rows_of(free)["num_in_group"].to_list() == [4, 4, 4, 4]


def test_similar_texts_do_not_chain(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    angles = np.deg2rad(np.arange(0, 180, 15))
    make_text_version(table, {"a": [(str(n), f"t{n}", [np.cos(a), np.sin(a)]) for n, a in enumerate(angles)]})
    derive(DuplicatesJob(rule=PairRule(similarity=0.95, conflict_check=False)), table, out)
    rows = rows_of(out)
    assert rows["similarity"].min() >= 0.95  # type: ignore[operator]
    assert rows["group"].n_unique() >= 4


def test_a_crowd_of_texts_that_are_all_alike_is_compared_with_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    num_pairs = 0
    count = grouping.Grouping._representative_of

    def counted(self: grouping.Grouping, rank: int, others: Any, cosines: Any) -> int:
        nonlocal num_pairs
        num_pairs += len(others)
        return count(self, rank, others, cosines)

    monkeypatch.setattr(grouping.Grouping, "_representative_of", counted)
    make_text_version(table, {"a": [(str(n), f"order {n} was sent", [1.0, 1e-4 * n]) for n in range(300)]})
    derive(DuplicatesJob(max_compared=8), table, out)
    assert rows_of(out)["num_in_group"].to_list() == [1] * 300
    assert num_pairs <= 8 * 300


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_night_by_night_gives_what_a_full_run_gives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("night")
    table, out = str(folder / "table"), str(folder / "out")
    job = DuplicatesJob(
        rule=PairRule(similarity=0.7, conflict_check=False), max_compared=data.draw(st.sampled_from([1, 2, 64]))
    )
    objects = st.dictionaries(
        st.sampled_from("abcd"),
        st.dictionaries(st.sampled_from("12345678"), st.integers(0, 60), min_size=1),
        min_size=1,
    )
    for night in range(3):
        state: State = data.draw(objects)
        make_version(table, state)
        derive(job, table, out)
        fresh = str(folder / f"fresh {night}")
        derive(job, table, fresh)
        assert rows_of(out).equals(rows_of(fresh))
    shutil.rmtree(folder)


def test_a_night_decides_only_the_texts_that_a_change_concerns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    job = DuplicatesJob(rule=PairRule(similarity=0.99, conflict_check=False))
    decided: list[int] = []
    settle = grouping.Grouping.settle

    def noted(self: grouping.Grouping, removed: object = None) -> None:
        settle(self, removed)  # type: ignore[arg-type]
        decided.append(self.num_decided)

    monkeypatch.setattr(grouping.Grouping, "settle", noted)
    state: State = {"a": {str(n): n for n in range(50)}, "b": {str(n): 50 + n for n in range(50)}}
    make_version(table, state)
    derive(job, table, out)
    make_version(table, {**state, "c": {"1": 1_000}})
    derive(job, table, out)
    make_version(table, {**state, "d": {"1": 2_000}})
    derive(job, table, out)
    assert decided[0] == 100
    assert decided[1] < 20
    assert decided[2] < 20
    make_version(table, {"a": state["a"]})  # the version before is gone from the log: everything is decided anew
    monkeypatch.setattr(Table, "open", _only_newest(Table.open, table))
    derive(job, table, out)
    assert decided[3] == 50


def _only_newest(open_table: Any, folder: str) -> Any:
    newest = open_table(folder).version

    def opened(uri: str, version: int | None = None) -> Table:
        if version is not None and version < newest:
            raise NotATableError(f"{uri}: version {version} is gone")
        table: Table = open_table(uri, version)
        return table

    return opened


def test_a_table_without_its_texts_is_refused_unless_the_check_is_off(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": {"1": 1}})
    with pytest.raises(ColumnError, match="--keep-columns text"):
        derive(DuplicatesJob(), table, out)
    assert derive(DuplicatesJob(rule=PairRule(conflict_check=False)), table, out).num_rows == 1


def test_a_text_column_that_is_not_kept_is_refused_where_no_text_is_read_too(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    make_text_version(table, {"a": [("1", "the card is lost", NEAR[0])]})
    job = DuplicatesJob(rule=PairRule(conflict_check=False), text_column="absent")
    with pytest.raises(ColumnError, match="no kept column of texts 'absent'"):
        derive(job, table, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_empty_table_has_no_groups(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": {"1": 1}})
    job = DuplicatesJob(rule=PairRule(conflict_check=False))
    derive(job, table, out)
    make_version(table, {})
    assert derive(job, table, out).num_rows == 0
