"""Shards hold what was written, cut as asked, with true statistics."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import SettingsError
from sbert.table.shard_file import file_checksum_problem
from sbert.table.shards import (
    ShardSettings,
    ShardWriter,
    embedding_column,
    embedding_matrix,
    fingerprint_of_shard,
    table_schema,
)

FINGERPRINT = "0123456789abcdef" * 2


def rows_of(first: int, count: int, dim: int = 3) -> pa.Table:
    numbers = np.arange(first, first + count)
    return pa.Table.from_pydict(
        {
            "id": [f"{number:05d}" for number in numbers],
            "source": ["s3://bucket/a.jsonl"] * count,
            "text_hash": [int(number).to_bytes(16, "big") for number in numbers],
            "embedding": embedding_column(np.repeat(numbers[:, None], dim, axis=1).astype(np.float32)),
            "num_tokens": numbers.astype(np.int32),
            "truncated": np.zeros(count, dtype=np.bool_),
        },
        schema=table_schema({}),
    )


def test_embedding_column_and_matrix_are_inverse() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    column = embedding_column(matrix)
    assert column.type == pa.list_(pa.float32())
    assert column.to_pylist()[1] == [3.0, 4.0, 5.0]
    np.testing.assert_array_equal(embedding_matrix(column, 3), matrix)
    np.testing.assert_array_equal(embedding_matrix(pa.chunked_array([column, column.slice(1, 2)]), 3)[4:], matrix[1:3])
    assert embedding_matrix(embedding_column(matrix[:0]), 3).shape == (0, 3)
    with pytest.raises(ValueError, match=r"4 embeddings hold 12 values, expected 4 x 5"):
        embedding_matrix(column, 5)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    shard_rows=st.integers(1, 50),
    row_group_rows=st.integers(1, 20),
)
def test_write_then_read_is_identity(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_rows: int, row_group_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    cut = ShardSettings(shard_rows=shard_rows, row_group_rows=row_group_rows)
    blocks = [rows_of(sum(sizes[:at]), size) for at, size in enumerate(sizes)]
    with ShardWriter(str(folder), FINGERPRINT, table_schema({}), cut) as writer:
        for block in blocks:
            writer.write(block)
        records = writer.close()
    expected = pa.concat_tables([rows_of(0, 0), *blocks]).cast(table_schema({}))
    files = [pq.ParquetFile(folder / record.name) for record in records]
    read = pa.concat_tables([file.read() for file in files]).replace_schema_metadata(None)
    assert read.equals(expected)
    assert [record.num_rows for record in records] == [file.metadata.num_rows for file in files]
    assert [record.num_bytes for record in records] == [(folder / record.name).stat().st_size for record in records]
    assert all(record.num_rows == shard_rows for record in records[:-1])
    for file in files:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        assert all(rows == row_group_rows for rows in groups[:-1])


def test_a_shard_has_bounds_and_checksum_in_its_footer_and_only_its_number_of_rows_in_the_log(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path), FINGERPRINT, table_schema({}), ShardSettings(), {"sbert": "facts"}) as writer:
        writer.write(rows_of(5, 3))
        record = writer.close()[0]
    assert fingerprint_of_shard(record.name) == FINGERPRINT
    assert json.loads(record.stats_json()) == {"numRecords": 3}
    file = pq.ParquetFile(tmp_path / record.name)
    bounds = file.metadata.row_group(0).column(file.schema_arrow.get_field_index("id")).statistics
    assert bounds.min == "00005"
    assert bounds.max == "00007"
    assert file_checksum_problem(str(tmp_path / record.name), record.num_bytes) == (None, True)
    assert file.schema_arrow.metadata[b"sbert"] == b"facts"
    column = file.metadata.row_group(0).column(file.schema_arrow.get_field_index("embedding"))
    assert column.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column.encodings


def test_no_rows_still_make_one_empty_shard(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path), FINGERPRINT, table_schema({}), ShardSettings()) as writer:
        records = writer.close()
    assert [record.num_rows for record in records] == [0]
    assert pq.read_table(tmp_path / records[0].name).num_rows == 0


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), FINGERPRINT, table_schema({}), ShardSettings(shard_rows=4, row_group_rows=2))

    def write() -> None:
        with writer:
            writer.write(rows_of(0, 7))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_kept_columns_keep_their_types_and_cannot_take_the_tables_own_names() -> None:
    schema = table_schema({"module": pl.String(), "year": pl.Int64(), "when": pl.Datetime("ns", "UTC")})
    assert schema.field("module").type == pa.string()
    assert schema.field("year").type == pa.int64()
    assert schema.field("when").type == pa.timestamp("us", tz="UTC")
    with pytest.raises(SettingsError, match=r"keep_columns names \['embedding'\]"):
        table_schema({"embedding": pl.String()})
