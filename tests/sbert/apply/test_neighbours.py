"""The nearest rows of every row: exact, and the same whether computed at once or night by night."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbert.apply.neighbours import job as library
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.table import unit_vectors
from sbert.table.delta import Table
from tests.support.made_tables import State, make_version, remove_shards_of_version

K = 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep vectors of small tables too, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unit_vectors, "LEAST_BYTES", 0)


def rows_of(table: str) -> tuple[list[tuple[str, str]], Any]:
    frame = Table.open(table).scan().collect()
    keys = list(zip(frame["source"].to_list(), frame["id"].to_list(), strict=True))
    return keys, np.array(frame["embedding"].to_list(), np.float32)


def expected(table: str) -> dict[tuple[str, str], list[float]]:
    """Return the scores of the k nearest, by plain matrix product."""
    keys, vectors = rows_of(table)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return {
        key: sorted(row[np.isfinite(row)].tolist(), reverse=True)[:K] for key, row in zip(keys, scores, strict=True)
    }


def assert_exact(table: str, out: str) -> None:
    keys, vectors = rows_of(table)
    place = {key: number for number, key in enumerate(keys)}
    wanted = expected(table)
    frame = DerivedTable.open(out).scan().collect()
    assert frame.height == len(keys)
    for row in frame.to_dicts():
        key = (row["source"], row["id"])
        neighbours = [(item["source"], item["id"]) for item in row["neighbours"]]
        assert key not in neighbours
        assert len(set(neighbours)) == len(neighbours)
        np.testing.assert_allclose([item["score"] for item in row["neighbours"]], wanted[key], atol=1e-5)
        # each named row really has the score that stands beside it
        true = [float(vectors[place[key]] @ vectors[place[other]]) for other in neighbours]
        np.testing.assert_allclose([item["score"] for item in row["neighbours"]], true, atol=1e-5)


def test_neighbours_are_those_of_comparing_all_rows(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {name: {str(row): hash((name, row)) % 10_000 for row in range(40)} for name in "ab"})
    report = derive(NeighboursJob(k=K), table, out)
    assert report.num_rows_built == 80
    assert_exact(table, out)


def test_a_row_of_a_table_with_few_rows_has_few_neighbours(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": {"1": 1, "2": 2}})
    derive(NeighboursJob(k=K), table, out)
    assert DerivedTable.open(out).scan().collect()["neighbours"].list.len().to_list() == [1, 1]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_night_by_night_gives_what_a_full_run_gives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("night")
    table, out = str(folder / "table"), str(folder / "out")
    values = st.integers(0, 60)
    objects = st.dictionaries(
        st.sampled_from("abcd"), st.dictionaries(st.sampled_from("12345678"), values, min_size=1), min_size=1
    )
    for _ in range(3):
        state: State = data.draw(objects)
        make_version(table, state)
        derive(NeighboursJob(k=K), table, out)
        assert_exact(table, out)


def test_a_night_compares_old_rows_with_new_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    state: State = {name: {f"{name}{row}": ord(name) * 100 + row for row in range(50)} for name in "abc"}
    make_version(table, state)
    derive(NeighboursJob(k=K), table, out)
    state["d"] = {"new": 5}
    make_version(table, state)
    products = []
    real = library.nearest_in_blocks

    def counted(queries: Any, k: int, blocks: Any) -> Any:
        def noted() -> Any:
            for keys, vectors in blocks:
                products.append(len(queries) * len(keys))
                yield keys, vectors

        return real(queries, k, noted())

    monkeypatch.setattr(library, "nearest_in_blocks", counted)
    derive(NeighboursJob(k=K), table, out)
    assert_exact(table, out)
    assert sum(products) == 150 * 1 + 1 * 151  # old rows with the new one, the new one with all


def test_a_vacuumed_version_costs_a_full_comparison_and_no_more(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    state: State = {"a": {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}, "b": {"6": 6}}
    make_version(table, state)
    derive(NeighboursJob(k=K), table, out)
    state["a"]["1"] = 9
    make_version(table, state)
    remove_shards_of_version(table, 0)
    derive(NeighboursJob(k=K), table, out)
    assert_exact(table, out)
