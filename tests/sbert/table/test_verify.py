"""Every kind of damage is found, and named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.errors import TableError
from sbert.index.search import search_table
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.shard_file import CHECKSUM_KEY, file_checksum_problem
from sbert.table.shards import embedding_column
from sbert.table.verify import verify_table
from tests.support.tables import objects_apart, rows, update, write
from tests.support.tiny_models import HIDDEN


@pytest.fixture
def table(tmp_path: Path, model: str) -> Path:
    write(tmp_path / "raw/0.jsonl", rows(0, 5))
    write(tmp_path / "raw/1.jsonl", rows(5, 5))
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    return tmp_path / "table"


def rewrite(table: Path, change: Callable[[pa.Table], pa.Table]) -> str:
    """Change a shard behind the log's back, by a program that writes no checksum."""
    shard = Table.open(str(table)).shards()[0]
    rows_there = pq.read_table(table / shard.name)
    metadata = {key: value for key, value in rows_there.schema.metadata.items() if key != CHECKSUM_KEY.encode()}
    pq.write_table(change(rows_there.replace_schema_metadata(metadata)), table / shard.name)
    return shard.name


def with_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    def change(rows_there: pa.Table) -> pa.Table:
        at = rows_there.schema.get_field_index(name)
        return rows_there.set_column(at, rows_there.schema.field(name), values)

    return change


def vectors(value: float, dim: int = HIDDEN) -> pa.Array:
    matrix = np.zeros((5, dim), np.float32)
    matrix[:, 0] = 1
    matrix[3, 0] = value
    return embedding_column(matrix)


def test_a_sound_table_passes(table: Path) -> None:
    verification = verify_table(str(table))
    assert verification.version == 0
    assert verification.num_shards == 2
    assert verification.num_rows == 10
    assert verification.findings == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (with_column("embedding", vectors(float("nan"))), "1 of 5 vectors hold NaN or infinity (first: row 3)"),
        (with_column("embedding", vectors(0.5)), "1 of 5 vectors have a wrong norm (first: row 3, norm 0.5"),
        (with_column("embedding", vectors(1, HIDDEN - 1)), "5 embeddings hold 155 values, expected 5 x 32"),
        (with_column("text_hash", pa.array([b"short"] * 5)), "5 text hashes are not 16 bytes long"),
        (with_column("id", pa.array(["0", None, "2", "3", "4"])), "1 rows have no id"),
        (lambda rows_there: rows_there.slice(0, 4), "has 4 rows, but the log says 5"),
        (lambda rows_there: rows_there.replace_schema_metadata({}), "its footer names no encoder"),
        (
            lambda rows_there: rows_there.replace_schema_metadata(
                {"sbert": rows_there.schema.metadata[b"sbert"].replace(b'"fingerprint":"', b'"fingerprint":"beef')}
            ),
            "made by",
        ),
        (lambda rows_there: rows_there.drop_columns(["truncated"]), "its rows were not checked"),
        (
            lambda rows_there: pa.concat_tables([rows_there, rows_there.slice(2, 1)]),
            "a (source, id) that another row has",
        ),
    ],
    ids=["nan", "norm", "dim", "hash", "null", "rows", "no-encoder", "encoder", "columns", "duplicate"],
)
def test_damage_is_found_and_named(table: Path, change: Callable[[pa.Table], pa.Table], finding: str) -> None:
    name = rewrite(table, change)
    findings = verify_table(str(table)).findings
    assert any(finding in line and name in line for line in findings), findings


def test_missing_and_torn_shards_do_not_stop_the_check(table: Path) -> None:
    first, second = Table.open(str(table)).shards()
    (table / first.name).unlink()
    whole = (table / second.name).read_bytes()
    (table / second.name).write_bytes(whole[: len(whole) // 2])
    findings = verify_table(str(table)).findings
    assert [name in findings[0] for name in (first.name, "cannot be read to its end")] == [True, True]
    assert f"{second.name}: is {len(whole) // 2:,} bytes long, the log says {len(whole):,}" in findings
    assert f"{second.name}: cannot be read to its end" in findings[2]


def test_a_compacted_shard_must_name_its_splits(table: Path) -> None:
    compact_table(str(table))
    rewrite(
        table,
        lambda rows_there: rows_there.replace_schema_metadata(
            {**rows_there.schema.metadata, b"sbert_splits": json.dumps([["0" * 32, 7]]).encode()}
        ),
    )
    assert any("names splits of 7 rows, but has 10" in finding for finding in verify_table(str(table)).findings)
    rewrite(
        table,
        lambda rows_there: rows_there.replace_schema_metadata({b"sbert": rows_there.schema.metadata[b"sbert"]}),
    )
    assert any("does not name its splits" in finding for finding in verify_table(str(table)).findings)


def test_the_exit_status_of_verify_is_1_when_something_is_wrong(table: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(table), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["findings"] == []
    rewrite(table, lambda rows_there: rows_there.slice(0, 4))
    done = CliRunner().invoke(app, ["verify", str(table), "--json"])
    assert done.exit_code == 1
    assert any("has 4 rows, but the log says 5" in finding for finding in json.loads(done.stdout)["findings"])
    assert CliRunner().invoke(app, ["verify", str(table), "--version", "7", "--json"]).exit_code == 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_flipped_bit_of_a_shard_is_found(tmp_path: Path, model: str, precision: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 40))
    encoding = {"precision": precision, "min_recall": 0.0}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart(encoding=encoding))
    (shard,) = Table.open(str(tmp_path / "table")).shards()
    path = tmp_path / "table" / shard.name
    whole = path.read_bytes()
    assert file_checksum_problem(str(path), shard.num_bytes) == (None, True)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    places = {*np.random.default_rng(0).integers(0, len(whole), 150).tolist(), *range(footer, len(whole)), 0, 1, 2, 3}
    unnoticed = []
    for place in sorted(places):
        path.write_bytes(flipped(whole, place))
        if file_checksum_problem(str(path), shard.num_bytes)[0] is None:
            unnoticed.append(place)
    assert unnoticed == []


def flipped(content: bytes, place: int) -> bytes:
    """Return bytes with one bit of the byte at a place flipped."""
    damaged = bytearray(content)
    damaged[place] ^= 1 << place % 8
    return bytes(damaged)


def test_a_flipped_bit_is_a_finding_and_never_the_end_of_the_check(table: Path) -> None:
    """A damaged footer that is parsed can end the process: Polars panics when the name of a column is not UTF-8."""
    shard = Table.open(str(table)).shards()[0]
    path = table / shard.name
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in [*range(0, footer, 97), *range(footer, len(whole), 5)]:
        path.write_bytes(flipped(whole, place))
        verification = verify_table(str(table))
        assert any(shard.name in finding for finding in verification.findings), place
        assert verification.num_rows == 5  # the other shard is checked


def test_every_wrong_length_of_a_footer_is_found(table: Path) -> None:
    shard = Table.open(str(table)).shards()[0]
    path = table / shard.name
    whole = path.read_bytes()
    unnoticed = []
    for bit in range(32):
        damaged = bytearray(whole)
        damaged[len(whole) - 8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if file_checksum_problem(str(path), shard.num_bytes)[0] is None:
            unnoticed.append(bit)
    assert unnoticed == []


def test_readers_refuse_a_damaged_page_and_name_the_remedy(table: Path) -> None:
    shard = Table.open(str(table)).shards()[0]
    path = table / shard.name
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    assert column.path_in_schema.startswith("embedding")
    damaged = bytearray(path.read_bytes())
    damaged[column.data_page_offset + column.total_compressed_size - 3] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(TableError, match=r"the shard is damaged .* `sbert backfill --force`"):
        search_table(Table.open(str(table)), "a text")


def test_a_wrong_size_in_the_log_is_found(table: Path) -> None:
    log = table / "_delta_log/00000000000000000000.json"
    shard = Table.open(str(table)).shards()[0]
    log.write_text(log.read_text().replace(f'"size":{shard.num_bytes}', f'"size":{shard.num_bytes + 7}'))
    (finding,) = verify_table(str(table)).findings
    assert finding == f"{shard.name}: is {shard.num_bytes:,} bytes long, the log says {shard.num_bytes + 7:,}"


def test_wrong_bounds_in_the_log_are_found(table: Path) -> None:
    log = table / "_delta_log/00000000000000000000.json"
    bounds = r"{\"numRecords\":5,\"minValues\":{\"id\":\"zzz\"},\"maxValues\":{\"id\":\"zzz\"}}"
    log.write_text(log.read_text().replace(r"{\"numRecords\": 5}", bounds, 1))
    (finding,) = verify_table(str(table)).findings
    assert "the log has bounds of some columns for 1 of 2 shards" in finding


def test_shards_without_a_checksum_are_counted(table: Path) -> None:
    assert verify_table(str(table)).num_shards_without_checksum == 0
    rewrite(table, lambda there: there.replace_schema_metadata({b"sbert": there.schema.metadata[b"sbert"]}))
    assert verify_table(str(table)).num_shards_without_checksum == 1
