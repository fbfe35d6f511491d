"""The whole flow on a real S3 server: the same table as on local folders, and what only object storage can do."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.errors import (
    MissingError,
    StorageError,
)
from tests.sbert.refresh.test_places import NAMES
from tests.support.flow_runs import refresh
from tests.support.services import S3Server
from tests.support.tables import objects_apart, read, rows, texts, write

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.s3
def test_a_table_on_s3_is_made_updated_and_searched(tmp_path: Path, model: str, s3: S3Server, s3_bucket: str) -> None:
    client = s3.filesystem()
    for number in range(3):
        path = write(tmp_path / f"raw/part-{number}.jsonl", rows(number * 20, 20))
        client.put_file(str(path), f"{s3_bucket}/raw/part-{number}.jsonl")
    client.put(model, f"{s3_bucket}/models/tiny", recursive=True)
    first = refresh(
        f"{s3_bucket}/raw", f"{s3_bucket}/table", model=f"{s3_bucket}/models/tiny", settings=objects_apart()
    )
    assert first.version == 0
    assert first.num_rows == 60
    assert first.num_texts_encoded == 60
    assert refresh(f"{s3_bucket}/raw/*.jsonl", f"{s3_bucket}/table", settings=objects_apart()).num_splits_kept == 3
    client.pipe_file(f"{s3_bucket}/raw/part-1.jsonl", (tmp_path / "raw/part-0.jsonl").read_bytes())
    second = refresh(f"{s3_bucket}/raw", f"{s3_bucket}/table", settings=objects_apart())
    assert second.version == 1
    assert second.num_rows == 60
    assert second.num_rows_carried == 20
    assert second.num_texts_encoded == 0
    local = tmp_path / "table"
    refresh(tmp_path / "raw", local, model=model)
    ours = read(f"{s3_bucket}/table").filter(pl.col("source").str.ends_with("part-2.jsonl"))
    theirs = read(local).filter(pl.col("source").str.ends_with("part-2.jsonl"))
    np.testing.assert_allclose(ours["embedding"].to_list(), theirs["embedding"].to_list(), atol=1e-6)


@pytest.mark.s3
def test_wrong_keys_and_missing_buckets_are_refused_without_showing_the_secret(
    tmp_path: Path, model: str, s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match="no-such-bucket"):
        refresh("s3://no-such-bucket-here/raw", tmp_path / "table", model=model)
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with pytest.raises(MissingError, match="no-such-bucket"):
        refresh(tmp_path / "raw", "s3://no-such-bucket-here/table", model=model)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageError, match=r"access denied.*check AWS_ACCESS_KEY_ID") as caught:
        refresh(tmp_path / "raw", f"{s3_bucket}/table", model=model)
    assert "not-the-secret" not in str(caught.value)
    assert s3.filesystem().find(s3_bucket) == []


@pytest.mark.s3
def test_objects_with_names_of_every_kind_are_read_from_s3(
    tmp_path: Path, model: str, s3: S3Server, s3_bucket: str
) -> None:
    names = [name for name in NAMES if "\n" not in name and "\\" not in name]
    client = s3.filesystem()
    for number, name in enumerate(names):
        client.pipe_file(f"{s3_bucket}/ra w/{name}.jsonl", json.dumps(rows(number, 1)[0]).encode())
    refresh(f"{s3_bucket}/ra w", f"{s3_bucket}/ta ble ü", model=model)
    assert set(read(f"{s3_bucket}/ta ble ü")["source"]) == {f"{s3_bucket}/ra w/{name}.jsonl" for name in names}
    assert refresh(f"{s3_bucket}/ra w", f"{s3_bucket}/ta ble ü").num_splits_built == 0


@pytest.mark.slow
@pytest.mark.s3
def test_all_objects_are_read_when_a_listing_has_several_pages(model: str, s3: S3Server, s3_bucket: str) -> None:
    client = s3.filesystem()
    num_objects = 1_050
    client.pipe({f"{s3_bucket}/raw/{n:05d}.txt": texts(n, 1)[0].encode() for n in range(num_objects)})
    first = refresh(f"{s3_bucket}/raw", f"{s3_bucket}/table", model=model, concurrency=4)
    assert first.num_objects == num_objects
    assert first.num_rows == num_objects
    client.pipe_file(f"{s3_bucket}/raw/one-more.txt", b"red green blue")
    second = refresh(f"{s3_bucket}/raw", f"{s3_bucket}/table")
    assert second.num_rows == num_objects + 1
    assert second.num_texts_encoded == 1
    assert second.num_splits_built == 1
    assert read(f"{s3_bucket}/table")["source"].n_unique() == num_objects + 1


@pytest.mark.s3
def test_a_refresh_of_an_empty_prefix_on_s3_says_so(model: str, s3_bucket: str) -> None:
    with pytest.raises(StorageError, match="no objects under this prefix"):
        refresh(f"{s3_bucket}/nothing", f"{s3_bucket}/table", model=model)
