"""PostgreSQL keeps checksums of its rows. A later proof hashes rows that were written since, and finds every change."""

import os
import random
import signal
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from psycopg import sql

from sbert.errors import DestinationError, NotEqualError
from sbert.sync.bucket_comparison import MIN_BUCKETS
from sbert.sync.destinations import postgres_checksums, postgres_digests
from sbert.sync.destinations.base import Collection
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.postgres import PostgresDestination
from sbert.sync.destinations.postgres_digests import PostgresDigester
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from sbert.table.delta import Table
from tests.support.made_tables import State, make_version
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.stores import visible_collection
from tests.support.tables import update

SOURCE, OTHER = "s3://raw/a.jsonl", "s3://raw/b.jsonl"
NUM_ROWS = 300


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {SOURCE: {str(number): number for number in range(NUM_ROWS)}})
    return folder


@pytest.fixture
def location(postgres: PostgresServer) -> str:
    return f"{postgres.location}#public.docs_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets, for each time that the server hashes values of rows, the number of these rows."""
    numbers: list[int] = []
    real = PostgresDigester._joined

    def noted(self: PostgresDigester, num_buckets: int, *hashes: sql.Composed, **where: Any) -> Any:
        checksums = real(self, num_buckets, *hashes, **where)
        if self._row_hash() in hashes:
            numbers.append(int(checksums[:, 0].sum()))
        return checksums

    monkeypatch.setattr(PostgresDigester, "_joined", noted)
    return numbers


def definitions(postgres: PostgresServer, location: str) -> list[tuple[Any, ...]]:
    """Return the collections of a destination that checksums are kept of."""
    name = location.rpartition(".")[2]
    return postgres.execute(f"SELECT collection FROM public.{postgres_checksums.CHECKSUMS} WHERE name = %s", name)


def test_a_proof_hashes_only_buckets_with_rows_that_were_written_since(
    table: str, location: str, postgres: PostgresServer, hashed: list[int]
) -> None:
    sync(table, location)
    assert hashed == [NUM_ROWS]
    assert reconcile(table, location).is_equal
    assert hashed == [NUM_ROWS]
    name = visible_collection(location)
    postgres.execute(f"UPDATE {name} SET count = count + 1 WHERE id = '7'")
    assert [key.id for key in reconcile(table, location).stale] == ["7"]
    assert len(hashed) == 2
    assert 1 <= hashed[1] <= 8
    assert [key.id for key in reconcile(table, location).stale] == ["7"]
    assert len(hashed) == 2


def test_after_an_increment_a_proof_hashes_the_buckets_of_its_rows(
    table: str, location: str, hashed: list[int]
) -> None:
    sync(table, location)
    state: State = {SOURCE: {str(number): number for number in range(NUM_ROWS)}, OTHER: {"new": 1}}
    make_version(table, state)
    sync(table, location)
    assert reconcile(table, location).is_equal
    assert hashed[0] == NUM_ROWS
    assert sum(hashed[1:]) <= 8


@pytest.mark.parametrize(
    ("change", "stale", "missing", "extra"),
    [
        ("UPDATE {} SET embedding = '[1,2,3,5]' WHERE id = '4'", ["4"], [], []),
        ("UPDATE {} SET kind = 'another' WHERE id = '4'", ["4"], [], []),
        ("UPDATE {} SET tags = '[7]' WHERE id = '4'", ["4"], [], []),
        ("DELETE FROM {} WHERE id = '4'", [], ["4"], []),
        ("UPDATE {} SET id = 'four' WHERE id = '4'", [], ["4"], ["four"]),
        ("UPDATE {0} t SET count = o.count FROM {0} o WHERE (t.id, o.id) IN (('3', '4'), ('4', '3'))", ["3", "4"], [], []),
        (
            "WITH gone AS (DELETE FROM {0} WHERE id = '4' RETURNING *) "
            "INSERT INTO {0} (id, source, text_hash, embedding, num_tokens, truncated) "
            "SELECT 'other', source, text_hash, embedding, num_tokens, truncated FROM gone",
            [],
            ["4"],
            ["other"],
        ),
    ],
)  # fmt: skip
def test_every_change_by_hand_after_a_proof_is_found(
    table: str,
    location: str,
    postgres: PostgresServer,
    change: str,
    stale: list[str],
    missing: list[str],
    extra: list[str],
) -> None:
    sync(table, location)
    postgres.execute(change.format(visible_collection(location)))
    for recompute in (False, True, False):
        report = reconcile(table, location, recompute=recompute)
        assert [key.id for key in report.stale] == stale
        assert [key.id for key in report.missing] == missing
        assert [key.id for key in report.extra] == extra
    assert reconcile(table, location, repair_differences=True).is_repaired
    assert reconcile(table, location).was_equal


def test_a_column_that_was_replaced_without_writing_a_row_is_found(
    table: str, location: str, postgres: PostgresServer
) -> None:
    """A new column with a default gives values to all rows, whose versions stay."""
    sync(table, location)
    name, view = visible_collection(location), "public." + location.rpartition(".")[2]
    before = postgres.execute(f"SELECT id, xmin::text FROM {name} ORDER BY id")
    postgres.execute(f"DROP VIEW {view}")
    postgres.execute(f"ALTER TABLE {name} DROP COLUMN kind")
    postgres.execute(f"ALTER TABLE {name} ADD COLUMN kind text DEFAULT 'another'")
    postgres.execute(f"CREATE VIEW {view} AS SELECT * FROM {name}")
    assert postgres.execute(f"SELECT id, xmin::text FROM {name} ORDER BY id") == before
    assert reconcile(table, location).num_stale == NUM_ROWS


def test_a_computed_column_is_hashed_anew_by_each_proof(
    table: str, location: str, postgres: PostgresServer, hashed: list[int]
) -> None:
    sync(table, location)
    postgres.execute(
        f"ALTER TABLE {visible_collection(location)} ADD COLUMN half bigint GENERATED ALWAYS AS (count / 2) STORED"
    )
    for number in (1, 2):
        assert reconcile(table, location).is_equal
        assert hashed == [NUM_ROWS] * (1 + number)


def test_without_checksums_of_pages_each_proof_hashes_every_row(
    table: str, location: str, postgres: PostgresServer, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = postgres_checksums.DEFINITION.as_string()
    assert "current_setting('data_checksums') = 'on'" in text
    without = sql.SQL(text.replace("current_setting('data_checksums')", "'off'"))  # type: ignore[arg-type]
    monkeypatch.setattr(postgres_checksums, "DEFINITION", without)
    sync(table, location)
    assert reconcile(table, location).is_equal
    assert hashed == [NUM_ROWS, NUM_ROWS]
    assert definitions(postgres, location) == []


def test_rows_that_were_only_moved_or_frozen_stay_equal(table: str, location: str, postgres: PostgresServer) -> None:
    sync(table, location)
    name = visible_collection(location)
    for statement in ("VACUUM FREEZE {}", "VACUUM FULL {}", "CLUSTER {} USING {}_pkey"):
        postgres.execute(statement.format(name, name.rpartition(".")[2]))
        assert reconcile(table, location).is_equal


def test_recompute_reads_values_that_nobody_wrote(table: str, location: str) -> None:
    """A value that changed without a new row version, as on a damaged disk, is found by hashing every row."""
    sync(table, location)
    with open_destination(location) as destination:
        assert isinstance(destination, PostgresDestination)
        collection = Collection.of_table(destination.name, Table.open(table))
        destination._execute(f"UPDATE {destination._schema}.{collection.name} SET count = -1 WHERE id = '7'")  # type: ignore[arg-type]
        digester = destination.digester(collection)
        definition = digester._kept.definition(digester._table, digester.kind)
        assert definition is not None
        before = digester._kept.read(definition, MIN_BUCKETS)
        assert before is not None
        versions = digester._joined(len(before), digester._version_hash())
        digester._kept.write(definition, np.column_stack([versions, before[:, 2]]))
    assert reconcile(table, location).is_equal
    assert [key.id for key in reconcile(table, location, recompute=True).stale] == ["7"]
    assert [key.id for key in reconcile(table, location).stale] == ["7"]


def test_recompute_hashes_the_rows_of_the_table_anew(table: str, location: str) -> None:
    sync(table, location)
    (file,) = (Path(table) / "_digests").iterdir()
    content = file.read_bytes()
    file.unlink()
    assert reconcile(table, location, recompute=True).is_equal
    assert file.read_bytes() == content


@pytest.mark.parametrize("damage", [b"", b"\1" * 24, b"\1" * 24 * 257])
def test_sums_of_another_number_of_buckets_are_joined_anew(
    table: str, location: str, postgres: PostgresServer, hashed: list[int], damage: bytes
) -> None:
    sync(table, location)
    name = location.rpartition(".")[2]
    postgres.execute(f"UPDATE public.{postgres_checksums.CHECKSUMS} SET buckets = %s WHERE name = %s", damage, name)
    assert reconcile(table, location).is_equal
    assert hashed == [NUM_ROWS, NUM_ROWS]


def test_other_functions_do_not_use_the_sums(
    table: str, location: str, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(table, location)
    monkeypatch.setattr(postgres_digests, "HASH_OF_BYTES", replace(postgres_digests.HASH_OF_BYTES, kind="postgresql-2"))
    assert reconcile(table, location).is_equal
    assert hashed == [NUM_ROWS, NUM_ROWS]


def test_sums_leave_with_their_collection(table: str, location: str, postgres: PostgresServer) -> None:
    sync(table, location)
    (before,) = definitions(postgres, location)
    make_version(table, {SOURCE: {str(number): number for number in range(NUM_ROWS)}}, encoder_number=1)
    sync(table, location)
    sync(table, location)  # drops the collection of the encoder before
    (after,) = definitions(postgres, location)
    assert after != before


def test_proofs_with_kept_checksums_name_what_proofs_of_every_row_name(
    table: str, location: str, postgres: PostgresServer
) -> None:
    source = random.Random(5)
    sync(table, location)
    name = visible_collection(location)
    state: State = {SOURCE: {str(number): number for number in range(NUM_ROWS)}, OTHER: {}}
    changes = (
        "UPDATE {0} SET count = {2} WHERE id = '{1}'",
        "UPDATE {0} SET embedding = '[0,0,0,{2}]' WHERE id = '{1}'",
        "DELETE FROM {0} WHERE id = '{1}'",
        "UPDATE {0} SET source = source || '{2}' WHERE id = '{1}'",
    )
    for step in range(12):
        for _ in range(source.randrange(4)):
            postgres.execute(source.choice(changes).format(name, source.randrange(NUM_ROWS), source.randrange(9)))
        if step % 3 == 2:
            state[OTHER] = {str(source.randrange(NUM_ROWS)): source.randrange(9) for _ in range(5)}
            make_version(table, state)
            sync_anyway(table, location)
        kept = reconcile(table, location)
        whole = reconcile(table, location, recompute=True)
        assert kept.model_copy(update={"seconds": 0.0}) == whole.model_copy(update={"seconds": 0.0})
        if step % 4 == 3:
            assert reconcile(table, location, repair_differences=True).is_equal


def sync_anyway(table: str, location: str) -> None:
    """Sync; the store may have other rows than the table, since somebody changed them."""
    with suppress(NotEqualError):
        sync(table, location)


def test_a_server_without_a_hash_of_bytes_hashes_arrays_of_them(
    table: str, location: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, hashed: list[int]
) -> None:
    """PostgreSQL before version 18."""
    monkeypatch.setattr(postgres_digests, "HAS_HASH_OF_BYTES", "SELECT false")
    sync(table, location)
    assert reconcile(table, location).is_equal
    assert hashed == [NUM_ROWS]
    name = visible_collection(location)
    postgres.execute(f"UPDATE {name} SET kind = 'another', tags = NULL WHERE id IN ('4', '5')")
    assert [key.id for key in reconcile(table, location).stale] == ["4", "5"]
    assert reconcile(table, location, repair_differences=True).is_repaired


def test_a_user_without_rights_on_the_checksums_proves_without_them(
    table: str, location: str, postgres: PostgresServer, hashed: list[int]
) -> None:
    sync(table, location)  # makes the table of checksums, which belongs to this user
    user, schema_rights = f"user_{uuid.uuid4().hex[:8]}", "CREATE, USAGE ON SCHEMA public"
    postgres.execute(f"CREATE ROLE {user} LOGIN")
    for right in ("CREATE ON DATABASE postgres", schema_rights, "ALL ON sbert_watermarks"):
        postgres.execute(f"GRANT {right} TO {user}")
    other = location.replace("user=postgres", f"user={user}") + "_other"
    sync(table, other)
    assert reconcile(table, other).is_equal
    assert reconcile(table, other, recompute=True).is_equal
    assert hashed == [NUM_ROWS] * 4
    assert definitions(postgres, other) == []


def test_rows_of_an_inheriting_table_are_hashed_by_each_proof(
    table: str, location: str, postgres: PostgresServer, hashed: list[int]
) -> None:
    sync(table, location)
    name = visible_collection(location)
    postgres.execute(f"CREATE TABLE {name}_child () INHERITS ({name})")
    for number in (1, 2):
        assert reconcile(table, location).is_equal
        assert hashed == [NUM_ROWS] * (1 + number)


def test_a_proof_never_sorts_rows_also_when_the_server_knows_their_number(
    tmp_path: Path, location: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(tmp_path / "large")
    make_version(table, {SOURCE: {str(number): number for number in range(3_000)}})
    sync(table, location)
    postgres.execute(f"ANALYZE {visible_collection(location)}")
    plans: list[str] = []
    real = PostgresDigester._joined

    def explained(self: PostgresDigester, num_buckets: int, *hashes: sql.Composed, **where: Any) -> Any:
        grouped = sql.SQL("EXPLAIN SELECT {}, bit_xor({}) FROM {} GROUP BY 1")
        query = grouped.format(self._bucket(num_buckets), hashes[0], self._table)
        plans.append("\n".join(line for (line,) in self._connection.execute(query)))
        return real(self, num_buckets, *hashes, **where)

    monkeypatch.setattr(postgres_digests, "WORK_MEMORY", "64kB")
    monkeypatch.setattr(PostgresDigester, "_joined", explained)
    assert reconcile(table, location).is_equal
    (plan,) = plans
    assert "HashAggregate" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("column", "written"), [("text", "text || ''"), ("image", "image || ''"), ("tags", "(tags::text || '')::json")]
)
def test_a_proof_finds_a_damaged_page_of_values_that_nobody_wrote_since(
    tmp_path: Path, model: str, column: str, written: str
) -> None:
    """Also where they are stored apart from their rows; the server compares the checksum of each page that it reads."""
    table = str(tmp_path / "table")
    texts = [f"{number} " * 3_000 for number in range(5)]
    images, tags = [text.encode() for text in texts], [text.split() for text in texts]
    rows = pl.DataFrame({"id": list("abcde"), "text": texts, "image": images, "tags": tags})
    (tmp_path / "raw").mkdir()
    rows.write_parquet(tmp_path / "raw/a.parquet")
    update(tmp_path / "raw", table, model=model, settings={"source": {"keep_columns": [column]}})
    with postgres_server() as server:
        location = f"{server.location}#public.docs"
        sync(table, location)
        name = visible_collection(location)
        server.execute(f"ALTER TABLE {name} ALTER COLUMN {column} SET STORAGE EXTERNAL")
        server.execute(f"UPDATE {name} SET {column} = {written}")
        assert reconcile(table, location).is_equal
        apart = f"(SELECT reltoastrelid FROM pg_class WHERE relname = '{name}')::regclass"
        ((path, size),) = server.execute(f"SELECT pg_relation_filepath({apart}), pg_relation_size({apart})")
        assert size >= 5 * 6_000
        server.execute("CHECKPOINT")
        os.kill(server.handle.get_pid(), signal.SIGKILL)
        with (Path(server.handle.pgdata) / path).open("r+b") as file:
            file.seek(4_000)
            file.write(b"damaged" * 30)
        server.restart()
        with pytest.raises(
            DestinationError, match=r"invalid page .*: the server's disk is damaged: restore the server"
        ):
            reconcile(table, location)
