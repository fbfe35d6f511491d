"""Unit vectors that stay on the local disk: those of the version, decoded once, and gone when they are not needed."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbert.errors import TableError
from sbert.table import unit_vectors
from sbert.table.delta import Table
from sbert.table.unit_vectors import VECTOR_CACHE_VARIABLE, UnitVectors, forget_unit_vectors, vector_cache_folder
from sbert.vectors.unit import unit_rows
from tests.support.made_tables import State, make_version


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep vectors of small tables too, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unit_vectors, "LEAST_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the shards that are decoded."""
    names: list[str] = []
    real = unit_vectors._decode

    def noted(file: Any, table: Table, shard: Any) -> None:
        names.append(shard.name)
        real(file, table, shard)

    monkeypatch.setattr(unit_vectors, "_decode", noted)
    return names


def state(*sources: str, num_rows: int = 5) -> State:
    return {source: {str(row): ord(source) * 100 + row for row in range(num_rows)} for source in sources}


def assert_right(vectors: UnitVectors, table: Table) -> None:
    """Compare the vectors of every shard with the table's own."""
    shards = [shard for shard in table.shards() if shard.num_rows]
    assert {shard.name for shard in vectors.shards} == vectors.starts.keys() == {shard.name for shard in shards}
    assert vectors.num_rows == table.num_rows
    every = []
    for shard in vectors.shards:
        rows = pq.read_table(table.shard_uri(shard.name), columns=["embedding"])["embedding"].to_pylist()
        wanted = unit_rows(np.array(rows, np.float32))
        start = vectors.starts[shard.name]
        np.testing.assert_array_equal(vectors.rows(start, start + shard.num_rows), wanted)
        backwards = np.arange(start, start + shard.num_rows)[::-1]
        np.testing.assert_array_equal(vectors.take(backwards), wanted[::-1])
        every.append(wanted)
    whole = vectors.whole()
    if whole is not None:
        np.testing.assert_array_equal(whole, np.concatenate([*every, np.zeros((0, vectors.dim), np.float32)]))
    numbers = np.concatenate([np.arange(first, first + 1) for first in vectors.starts.values()] or [np.zeros(0, int)])
    np.testing.assert_array_equal(vectors.take(numbers), np.array([rows[0] for rows in every]).reshape(-1, vectors.dim))


def files() -> list[Path]:
    return sorted(vector_cache_folder().glob("*/*"))


def test_a_shard_is_decoded_once_on_a_machine(tmp_path: Path, decoded: list[str]) -> None:
    folder = str(tmp_path / "table")
    table = make_version(folder, state(*"abcd"))
    first = UnitVectors.open(table)
    assert_right(first, table)
    assert first.whole() is not None
    assert len(decoded) == 4
    assert_right(UnitVectors.open(table), table)
    assert len(decoded) == 4
    table = make_version(folder, state(*"abcde"))
    assert_right(UnitVectors.open(table), table)
    assert len(decoded) == 5


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nights=st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9)), min_size=1, max_size=14))
def test_nights_of_any_changes_give_the_vectors_of_the_version(
    nights: list[dict[str, int]], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_vectors, "MAX_FILES", 3)
    folder = str(tmp_path_factory.mktemp("nights"))
    for sizes in nights:
        table = make_version(folder, {name: state(name, num_rows=count)[name] for name, count in sizes.items()})
        assert_right(UnitVectors.open(table), table)
    assert len(list(unit_vectors._folder_of(table.uri).glob("*.f32"))) <= 3
    forget_unit_vectors(table.uri)


def test_rows_that_left_do_not_stay_for_long_and_files_do_not_become_many(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "table")
    UnitVectors.open(make_version(folder, state(*"abcd")))
    table = make_version(folder, state(*"abc"))  # a quarter of the rows left: the file stays
    assert_right(UnitVectors.open(table), table)
    assert [path.stat().st_size for path in files() if path.suffix == ".f32"] == [4 * 5 * 16]
    table = make_version(folder, state(*"ab"))
    assert_right(UnitVectors.open(table), table)
    assert [path.stat().st_size for path in files() if path.suffix == ".f32"] == [2 * 5 * 16]
    assert len(decoded) == 4  # moved, not decoded again
    monkeypatch.setattr(unit_vectors, "MAX_FILES", 4)
    for number in range(3, 20):
        table = make_version(folder, state(*"abcdefghijklmnopqrstuvwxyz"[:number]))
        assert_right(UnitVectors.open(table), table)
        assert len(files()) <= 2 * 4
    assert len(decoded) == 4 + 17


def test_another_encoder_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    UnitVectors.open(make_version(folder, state("a", "b")))
    table = make_version(folder, state("a", "b"), encoder_number=1)
    assert_right(UnitVectors.open(table), table)
    assert len(files()) == 2


@pytest.mark.parametrize("damage", ["torn", "record", "no data"])
def test_a_damaged_file_is_decoded_again(tmp_path: Path, decoded: list[str], damage: str) -> None:
    table = make_version(str(tmp_path / "table"), state("a", "b"))
    UnitVectors.open(table)
    data, record = files()
    if damage == "torn":
        os.truncate(data, 100)
    elif damage == "record":
        record.write_text('{"dim": 4, "sha')
    else:
        data.unlink()
    assert_right(UnitVectors.open(table), table)
    assert len(decoded) == 4
    assert len(files()) == 2


def test_files_that_another_process_puts_together_meanwhile_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_version(str(tmp_path / "table"), state("a", "b"))
    UnitVectors.open(table)
    real, calls = unit_vectors._mapped, 0

    def vanished(path: Path, num_rows: int, dim: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise FileNotFoundError(path)
        return real(path, num_rows, dim)

    monkeypatch.setattr(unit_vectors, "_mapped", vanished)
    assert_right(UnitVectors.open(table), table)
    assert calls == 2


def test_vectors_are_not_kept_where_that_is_not_wanted_or_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_version(str(tmp_path / "table"), state("a", "b"))
    monkeypatch.setenv(VECTOR_CACHE_VARIABLE, "0")
    assert_right(UnitVectors.open(table), table)
    assert not vector_cache_folder().exists()
    monkeypatch.delenv(VECTOR_CACHE_VARIABLE)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert_right(UnitVectors.open(table), table)
    assert "vectors are not kept for the next run" in caplog.text


def test_a_table_without_rows_has_no_vectors(tmp_path: Path) -> None:
    make_version(str(tmp_path / "table"), state("a"))
    table = make_version(str(tmp_path / "table"), {})
    vectors = UnitVectors.open(table)
    assert_right(vectors, table)
    assert len(vectors) == 0


def test_the_table_that_was_used_longest_ago_leaves_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [make_version(str(tmp_path / name), state("a", "b")) for name in ("one", "two", "three")]
    for age, table in enumerate(tables[:2]):
        UnitVectors.open(table)
        folder = unit_vectors._folder_of(table.uri)
        os.utime(folder, (1_000 + age, 1_000 + age))
    size = sum(path.stat().st_size for path in files())
    monkeypatch.setenv(VECTOR_CACHE_VARIABLE, str(size))
    UnitVectors.open(tables[2])
    assert [unit_vectors._folder_of(table.uri).exists() for table in tables] == [False, True, True]
    forget_unit_vectors(tables[2].uri)
    assert [unit_vectors._folder_of(table.uri).exists() for table in tables] == [False, True, False]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state("a"))
    UnitVectors.open(table)
    folder = unit_vectors._folder_of(table.uri)
    old, new = folder / ".x.1.tmp", folder / ".x.2.tmp"
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (1_000, 1_000))
    UnitVectors.open(table)
    assert not old.exists()
    assert new.exists()


def test_a_damaged_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), state("a", num_rows=500))
    (shard,) = table.shards()
    path = Path(table.shard_uri(shard.name))
    content = bytearray(path.read_bytes())
    for at in range(8, len(content) * 3 // 4, 40):  # pages of every column
        content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(TableError, match=shard.name):
        UnitVectors.open(table)
    assert not [path for path in files() if path.suffix == ".json"]
