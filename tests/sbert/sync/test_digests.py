"""PostgreSQL and this library compute the same digests of rows; a table's digests are kept and reused."""

import uuid
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from sbert.sync import row_digests
from sbert.sync.destinations.base import Collection, RowDigester
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.postgres_binary import TextArray, TextArrayDumper
from sbert.sync.destinations.postgres_digests import PostgresDigester
from sbert.sync.destinations.postgres_hash import hash_values, hash_words
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from sbert.table.delta import Table
from sbert.table.vacuum import vacuum_table
from tests.support.made_tables import make_version
from tests.support.postgres import PostgresServer

SOURCE = "s3://raw/a.jsonl"


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {SOURCE: {str(number): number for number in range(300)}})
    return folder


@pytest.fixture
def destination(postgres: PostgresServer) -> str:
    return f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"


def test_values_of_every_length_are_hashed_as_the_server_hashes_them(postgres: PostgresServer) -> None:
    source = np.random.default_rng(0)
    values = [source.bytes(length) for length in (*range(40), 1_000, 1_001, 0, 12, 24)]
    with psycopg.connect(postgres.location) as connection:
        for seed in (1, 2**33 + 5, 2**63 - 1):
            expected = [
                row[0]
                for value in values
                for row in connection.execute("SELECT hashbyteaextended(%s, %s)", (value, seed))
            ]
            assert hash_values(pa.array(values, pa.large_binary()), seed).view(np.int64).tolist() == expected


def test_rows_of_words_have_the_hash_of_their_bytes() -> None:
    for num_words in (1, 2, 3, 4, 385):
        words_WN = np.random.default_rng(num_words).integers(0, 2**32, (num_words, 5)).astype(np.uint32)
        values = pa.array([words_WN[:, row].astype("<u4").tobytes() for row in range(5)], pa.large_binary())
        assert hash_words(words_WN, 7).tolist() == hash_values(values, 7).tolist()


def test_a_slice_of_values_has_the_hashes_of_its_values() -> None:
    values = pa.array([b"a", b"bb", b"a longer value", b""], pa.large_binary())
    assert hash_values(values.slice(1, 2), 3).tolist() == hash_values(values, 3).tolist()[1:3]


def test_digests_are_computed_once_for_each_shard(
    table: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(table, destination)
    real, computed = row_digests._computed, []

    def counted(table: Table, shard: object, *rest: object) -> object:
        computed.append(shard)
        return real(table, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(row_digests, "_computed", counted)
    assert reconcile(table, destination).is_equal
    assert computed == []
    make_version(table, {SOURCE: {str(number): number for number in range(300)}, "s3://raw/b": {"x": 1}})
    sync(table, destination, prove=True)
    assert len(computed) == 1


@pytest.mark.parametrize("damage", [b"", b"too short", b"\1" * (300 * 24 + 32)])
def test_digests_that_are_damaged_are_computed_again(table: str, destination: str, damage: bytes) -> None:
    sync(table, destination)
    (file,) = (Path(table) / "_digests").iterdir()
    content = file.read_bytes()
    file.write_bytes(damage)
    assert reconcile(table, destination).is_equal
    assert file.read_bytes() == content


def test_digests_that_cannot_be_kept_do_not_stop_a_comparison(
    table: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sbert.errors import StorageError

    def refuse(uri: str, content: bytes) -> None:
        raise StorageError("permission denied", uri=uri)

    monkeypatch.setattr(row_digests, "write_bytes", refuse)
    sync(table, destination)
    assert reconcile(table, destination).is_equal
    assert not (Path(table) / "_digests").exists()


def test_vacuum_removes_digests_with_their_shard(table: str, destination: str) -> None:
    sync(table, destination)
    make_version(table, {SOURCE: {str(number): number for number in range(301)}})
    sync(table, destination, prove=True)
    assert len(list((Path(table) / "_digests").iterdir())) == 2
    vacuum_table(table, retention_hours=0, apply=True)
    (left,) = (Path(table) / "_digests").iterdir()
    (shard,) = Table.open(table).shards()
    assert left.name.startswith(shard.name.removesuffix(".parquet"))


def test_values_that_moved_between_rows_of_one_bucket_are_seen(table: str, postgres: PostgresServer) -> None:
    """A checksum of the hashes of columns would stay the same; a checksum of the hashes of rows does not."""
    location = f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"
    sync(table, location)
    with open_destination(location) as opened:
        name = opened.visible()
    postgres.execute(
        f"UPDATE {name} t SET num_tokens = o.num_tokens FROM {name} o WHERE (t.id, o.id) IN (('3', '4'), ('4', '3'))"
    )
    assert [key.id for key in reconcile(table, location).stale] == ["3", "4"]


def test_sums_find_exactly_the_buckets_of_the_rows_that_differ(table: str, destination: str) -> None:
    sync(table, destination)
    opened = Table.open(table)
    with open_destination(destination) as store:
        collection = Collection.of_table(store.name, opened)
        digester = store.digester(collection)
        assert isinstance(digester, PostgresDigester | RowDigester)
        before = digester.checksums(256)
        assert before[:, 0].sum() == 300
        (row,) = [
            stored.digests[stored.keys["id"].to_pylist().index("7")]
            for stored in digester.rows(256, None)
            if stored.digests is not None
        ]
        store._execute(f"DELETE FROM public.{collection.name} WHERE id = '7'")  # type: ignore[attr-defined]
        changed = np.flatnonzero((digester.checksums(256) != before).any(axis=1))
        assert changed.tolist() == row_digests.bucket_of(row.reshape(1, 3), 256).tolist()


@pytest.mark.parametrize(
    "chunks", [[["a", "", "ä€", "x" * 300, '{"\\,']], [["a"], ["b", "c"]], [["a", None, "c"]], [[]], []]
)
def test_a_column_of_texts_reaches_the_server_as_an_array(
    postgres: PostgresServer, chunks: list[list[str | None]]
) -> None:
    column = pa.chunked_array(chunks, pa.string())
    with psycopg.connect(postgres.location) as connection:
        connection.adapters.register_dumper(TextArray, TextArrayDumper)
        assert connection.execute("SELECT %s", [TextArray(column)]).fetchone() == (column.to_pylist(),)
        sliced = column.slice(1)
        assert connection.execute("SELECT %s", [TextArray(sliced)]).fetchone() == (sliced.to_pylist(),)


def test_a_row_whose_id_postgresql_cannot_hold_is_removed_too(tmp_path: Path, destination: str) -> None:
    folder = str(tmp_path / "table")
    make_version(folder, {SOURCE: {"a": 1, "b\0c": 2}})
    sync(folder, destination)
    make_version(folder, {SOURCE: {"a": 1}})
    report = sync(folder, destination)
    assert report.num_deletes == 1
    assert report.num_rows == 1
    assert reconcile(folder, destination).is_equal
