"""What a refresh makes of rows, ids, texts and encoders, and who reads the table that it made."""

import json
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import (
    EncoderMismatchError,
    NotATableError,
    TruncationError,
)
from sbert.index.search import search_table
from sbert.table.delta import Table
from tests.support.library_runs import refresh, rejects_of
from tests.support.tables import Rows, objects_apart, read, rows, texts, write
from tests.support.tiny_models import WORDS, save_tiny


def test_a_renamed_object_is_carried_over(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    (tmp_path / "raw/a.jsonl").rename(tmp_path / "raw/b.jsonl")
    report = refresh(tmp_path / "raw", tmp_path / "table")
    assert report.num_rows_carried == 30
    assert report.num_texts_encoded == 0
    assert set(read(tmp_path / "table")["source"]) == {str(tmp_path / "raw/b.jsonl")}


def test_equal_texts_are_encoded_once_and_stay_rows(tmp_path: Path, model: str) -> None:
    lines: Rows = [{"id": str(n), "text": f"text number {n % 5}"} for n in range(40)]
    write(tmp_path / "raw/a.jsonl", lines)
    write(tmp_path / "raw/b.jsonl", lines)
    settings = objects_apart(reading={"block_rows": 7})
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    assert report.num_rows == 80
    assert report.num_rows_encoded == 80
    assert report.num_texts_encoded == 5


def test_dropping_duplicate_texts_is_a_setting(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", [{"id": str(n), "text": f"text number {n % 5}"} for n in range(40)])
    settings = objects_apart(reading={"block_rows": 7}, cleaning={"drop_duplicate_texts": True})
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    assert report.num_rows == 5
    assert report.rejects_by_reason == {"duplicate_text": 35}
    assert read(tmp_path / "table")["id"].to_list() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("block_rows", [3, 1000])
def test_of_two_rows_with_one_id_the_later_stays(tmp_path: Path, model: str, block_rows: int) -> None:
    lines = rows(0, 20)
    lines[2]["id"] = lines[11]["id"] = lines[17]["id"] = "same"
    write(tmp_path / "raw/a.jsonl", lines)
    settings = objects_apart(reading={"block_rows": block_rows})
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, keep_columns=["kind"], settings=settings)
    assert report.num_rows == 18
    assert report.num_rows_rejected == 2
    assert report.num_texts_encoded == (20 if block_rows == 3 else 18)
    rejected = rejects_of(str(tmp_path / "table"))
    assert rejected.select("row", "id", "reason").sort("row").rows() == [
        (3, "same", "duplicate_id"),
        (12, "same", "duplicate_id"),
    ]
    assert json.loads(rejected.sort("row")["original"][0])["text"] == texts(2, 1)[0]
    row = read(tmp_path / "table").filter(pl.col("id") == "same")
    np.testing.assert_allclose(
        row["embedding"][0], SentenceEncoder.from_pretrained(model).encode(texts(17, 1))[0], atol=1e-5
    )


def test_of_an_id_in_two_slices_of_an_object_the_later_row_stays(tmp_path: Path, model: str) -> None:
    lines = rows(0, 60)
    lines[1]["id"] = lines[50]["id"] = "same"
    write(tmp_path / "raw/a.jsonl", lines)
    settings = objects_apart(splits={"pack_below_bytes": 0, "split_bytes": 1000})
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    assert report.num_splits_built > 3
    assert report.num_rows == 59
    assert report.num_rows_read == 60
    assert report.rejects_by_reason == {"duplicate_id": 1}
    assert rejects_of(str(tmp_path / "table"))["row"].to_list() == [2]
    again = refresh(tmp_path / "raw", tmp_path / "table", settings=settings)
    assert again.version == 0
    assert again.num_splits_built == 0


def test_another_model_switches_the_table_in_one_commit(tmp_path: Path, model: str, other_model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    report = refresh(tmp_path / "raw", tmp_path / "table", model=other_model)
    assert report.version == 1
    assert report.num_rows == 10
    assert report.num_rows_encoded == 10
    assert report.num_rows_carried == 0
    now, before = Table.open(str(tmp_path / "table")), Table.open(str(tmp_path / "table"), 0)
    assert now.encoder.model == other_model
    assert before.encoder.model == model
    assert before.num_rows == 10
    unnamed = refresh(tmp_path / "raw", tmp_path / "table")
    assert unnamed.version == 1
    assert unnamed.encoder == other_model


def test_a_model_that_changed_in_place_is_refused_unless_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_tiny(folder)
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=str(folder))
    save_tiny(folder, seed=5)
    from sbert.encoder import process_cache

    process_cache._loaded.clear()  # another night, another process
    with pytest.raises(EncoderMismatchError, match="pass --model"):
        refresh(tmp_path / "raw", tmp_path / "table")
    assert refresh(tmp_path / "raw", tmp_path / "table", model=str(folder)).num_rows_encoded == 10


def test_a_table_of_another_dim_is_refused(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    with pytest.raises(
        EncoderMismatchError, match=r"table has dim 32, but the encoder gives 384: choose the table's encoder"
    ):
        refresh(tmp_path / "raw", tmp_path / "table", model="all-MiniLM-L6-v2")
    assert Table.open(str(tmp_path / "table")).version == 0


def test_a_folder_that_is_not_a_table_is_refused(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    with pytest.raises(NotATableError, match=r"not a table and is not empty \(1 entries: cat.jpg\)"):
        refresh(tmp_path / "raw", tmp_path / "photos", model=model)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_truncation_is_counted_and_can_be_refused(tmp_path: Path, model: str) -> None:
    long = " ".join(WORDS * 3)
    write(tmp_path / "raw/a.jsonl", [{"id": "long", "text": long}, {"id": "short", "text": "red"}])
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.num_rows_truncated == 1
    by_id = {row["id"]: row for row in read(tmp_path / "table").to_dicts()}
    assert by_id["long"]["truncated"]
    assert by_id["long"]["num_tokens"] > 64
    assert not by_id["short"]["truncated"]
    refused = refresh(
        tmp_path / "raw", tmp_path / "t2", model=model, settings=objects_apart(encoding={"truncation": "reject"})
    )
    assert refused.rejects_by_reason == {"too_many_tokens": 1}
    windows = refresh(
        tmp_path / "raw", tmp_path / "t3", model=model, settings=objects_apart(encoding={"truncation": "window"})
    )
    assert windows.num_rows_truncated == 0
    assert windows.num_rows == 2
    with pytest.raises(TruncationError, match=r"1 of 2 rows \(50.00%\) have more than 64 tokens"):
        refresh(tmp_path / "raw", tmp_path / "t4", model=model, settings=objects_apart(encoding={"truncation": "fail"}))


def test_polars_duckdb_and_deltalake_read_the_table(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    uri = str(tmp_path / "table")
    frame = pl.scan_delta(uri).with_columns(pl.col("embedding").cast(pl.Array(pl.Float32, 32))).collect()
    assert frame["embedding"].to_numpy().shape == (10, 32)
    shards = [Table.open(uri).shard_uri(shard.name) for shard in Table.open(uri).shards()]
    assert duckdb.sql(f"select count(*), min(len(embedding)) from read_parquet({shards})").fetchall() == [(10, 32)]
    from deltalake import DeltaTable

    assert DeltaTable(uri).to_pandas().shape == (10, 6)


def test_search_finds_the_text_itself(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    settings = objects_apart(shards={"shard_rows": 8, "row_group_rows": 3})
    refresh(tmp_path / "raw", tmp_path / "table", model=model, keep_columns=["kind"], settings=settings)
    hits = search_table(Table.open(str(tmp_path / "table")), texts(17, 1)[0]).hits()[:3]
    assert hits[0].id == "17"
    assert hits[0].kept == {"kind": "odd"}
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
