"""Applying the change feed to a copy of one version gives the other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.errors import SettingsError, TableError
from sbert.storage.files import write_bytes
from sbert.sync import change_feed, row_comparison, version_changes
from sbert.sync.change_feed import write_changes
from sbert.sync.version_changes import VersionChanges
from sbert.table import record_file
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema
from tests.support.services import S3Server

DIM = 3
KEPT = {"kind": pl.String(), "tags": pl.List(pl.String())}
Rows = dict[str, int]
"""A number decides the content of a row. Numbers can differ in nothing but the vector."""


def encoder(number: int) -> EncoderInfo:
    return EncoderInfo(
        model=f"model {number}", fingerprint=f"{number:064d}", model_fingerprint="m", dim=DIM, pooling="mean",
        normalized=False, max_seq_length=8,
    )  # fmt: skip


def write_shard(folder: str, source: str, rows: Rows, encoder_number: int) -> ShardRecord:
    values = np.array(list(rows.values()), np.float32).reshape(-1, 1) + 1000 * encoder_number
    table = pa.table(
        {
            "id": list(rows),
            "source": [source] * len(rows),
            "text_hash": [int(value // 6).to_bytes(16, "big") for value in rows.values()],
            "embedding": embedding_column(np.repeat(values // 3, DIM, axis=1).astype(np.float32)),
            "num_tokens": np.ones(len(rows), np.int32),
            "truncated": np.zeros(len(rows), np.bool_),
            "kind": pa.array([["a", "b", None][value % 3] for value in rows.values()], pa.string()),
            "tags": pa.array([["x"] * (value % 3) for value in rows.values()], pa.list_(pa.string())),
        },
        schema=table_schema(KEPT),
    )
    with ShardWriter(folder, f"{source:0>32}", table_schema(KEPT), ShardSettings(row_group_rows=4)) as writer:
        writer.write(table)
        return writer.close()[0]


def publish(folder: str, state: dict[str, Rows], before: dict[str, Rows] | None, encoder_number: int, old: int) -> None:
    """Make the next version: objects that changed are rewritten whole, as a refresh does."""
    table = Table.open(folder) if before is not None else None
    changed = {
        name
        for name in {*state, *(before or {})}
        if encoder_number != old or state.get(name) != (before or {}).get(name)
    }
    commit(
        folder,
        table,
        add=[write_shard(folder, name, state[name], encoder_number) for name in sorted(changed & state.keys())],
        drop=[shard for shard in (table.shards() if table else []) if shard.fingerprint.lstrip("0") in changed],
        encoder=encoder(encoder_number),
        kept_schema=KEPT,
        metadata={},
    )


def contents(frame: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    rows = {(row["source"], row["id"]): row for row in frame.to_dicts()}
    assert len(rows) == frame.height
    return rows


def apply(copy: dict[tuple[str, str], dict[str, Any]], feed: pl.DataFrame) -> None:
    for row in feed.to_dicts():
        key, change = (row["source"], row["id"]), row.pop("change")
        if change == "upsert":
            copy[key] = row
        else:
            del copy[key]  # a delete of what is not there is an error


STATES = st.dictionaries(
    st.sampled_from("ABCD"), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 11), max_size=8), max_size=4
)
HISTORIES = st.lists(st.tuples(STATES, st.sampled_from([0, 0, 0, 1])), min_size=2, max_size=5)


@settings(max_examples=25, deadline=None)
@given(history=HISTORIES, slice_rows=st.integers(2, 40), data=st.data())
def test_applying_the_changes_gives_the_other_version(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[dict[str, Rows], int]],
    slice_rows: int,
    data: st.DataObject,
) -> None:
    folder = str(tmp_path_factory.mktemp("history"))
    state, number = history[0]
    publish(folder, state, None, number, number)
    for following, new in history[1:]:
        publish(folder, following, state, new, number)
        state, number = following, new
    newest = Table.open(folder).version
    low = data.draw(st.integers(0, newest))
    high = data.draw(st.integers(0, newest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_comparison, "ROWS_PER_SLICE", slice_rows)
        patch.setattr(version_changes, "ROWS_PER_READ", 3)
        patch.setattr(version_changes, "KEPT_BYTES", data.draw(st.sampled_from([0, 200, 2**26])))
        patch.setattr(record_file, "RECORDS_PER_READ", 5)
        summary = write_changes(folder, low, high, f"{folder}/feed.parquet")
    feed = pl.read_parquet(f"{folder}/feed.parquet")
    before, after = (
        contents(Table.open(folder, low).scan().collect()),
        contents(Table.open(folder, high).scan().collect()),
    )
    copy = dict(before)
    apply(copy, feed)
    assert copy == after
    if history[low][1] == history[high][1]:  # the same encoder: nothing but what differs is in the feed
        assert summary.num_upserts == sum(before.get(key) != row for key, row in after.items())
    else:
        assert summary.num_upserts == len(after)
    assert summary.num_deletes == len(before.keys() - after.keys())


@pytest.fixture(params=[0, 2**26], ids=["read again", "in memory"])
def kept_or_not(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test run with joining rows that are read again, and with rows that stay in memory."""
    monkeypatch.setattr(version_changes, "KEPT_BYTES", request.param)


def changes_of(folder: str) -> list[dict[str, Any]]:
    """Return the changes from version 0 to version 1 of a table."""
    write_changes(folder, 0, 1, f"{folder}/feed.jsonl")
    return [json.loads(line) for line in Path(f"{folder}/feed.jsonl").read_text().splitlines()]


def two_versions(folder: str) -> None:
    first = {"A": {"a": 0, "b": 1, "c": 2}, "B": {"a": 5}}
    publish(folder, first, None, 0, 0)
    publish(folder, {"A": {"a": 0, "b": 7, "d": 3}, "B": {"a": 5}}, first, 0, 0)


def test_changes_are_written_as_json_lines(tmp_path: Path) -> None:
    two_versions(str(tmp_path / "table"))
    changes = changes_of(str(tmp_path / "table"))
    assert [(row["change"], row["source"], row["id"]) for row in changes] == [
        ("upsert", "A", "b"),
        ("upsert", "A", "d"),
        ("delete", "A", "c"),
    ]
    assert changes[0] == {
        "change": "upsert", "id": "b", "source": "A", "text_hash": "00" * 15 + "01", "embedding": [2.0, 2.0, 2.0],
        "num_tokens": 1, "truncated": False, "kind": "b", "tags": ["x"],
    }  # fmt: skip
    assert set(changes[2]) == {"change", "source", "id"}


@pytest.mark.usefixtures("kept_or_not")
def test_a_row_that_differs_in_nothing_but_its_vector_is_an_upsert(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    first = {"A": {"a": 0, "b": 1, "c": 2}, "B": {"d": 0, "e": 1}}
    publish(folder, first, None, 0, 0)
    publish(folder, {"A": {"c": 5, "a": 3, "b": 1}, "B": {"e": 1, "d": 0, "f": 2}}, first, 0, 0)
    assert [(row["change"], row["id"], row["embedding"][0]) for row in changes_of(folder)] == [
        ("upsert", "c", 1.0),
        ("upsert", "a", 1.0),
        ("upsert", "f", 0.0),
    ]


@pytest.mark.usefixtures("kept_or_not")
def test_a_key_that_occurs_twice_hides_no_other_change(tmp_path: Path) -> None:
    folder = str(tmp_path / "table")
    publish(folder, {"A": {"a": 0, "c": 1, "d": 2}}, None, 0, 0)
    table = Table.open(folder)
    shards = [write_shard(folder, "A", {"a": 0, "c": 4}, 0), write_shard(folder, "A", {"d": 5, "a": 0}, 0)]
    commit(folder, table, add=shards, drop=table.shards(), encoder=encoder(0), kept_schema=KEPT, metadata={})
    assert sorted((row["change"], row["id"]) for row in changes_of(folder)) == [("upsert", "c"), ("upsert", "d")]


@pytest.mark.usefixtures("kept_or_not")
def test_a_log_without_numbers_of_rows_hides_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "table")
    two_versions(folder)
    real = Table.shards
    monkeypatch.setattr(
        Table, "shards", lambda self: [shard.model_copy(update={"num_rows": 0}) for shard in real(self)]
    )
    assert [row["id"] for row in changes_of(folder)] == ["b", "d", "c"]


def test_a_shard_that_lacks_a_column_is_compared_by_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "table")
    two_versions(folder)
    real = Table.arrow_schema.fget  # type: ignore[attr-defined]
    wider = pa.field("later", pa.string())
    monkeypatch.setattr(Table, "arrow_schema", property(lambda self: real(self).append(wider)))
    assert [row["id"] for row in changes_of(folder)] == ["b", "d", "c"]


def test_long_vectors_are_read_in_smaller_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "table")
    two_versions(folder)
    monkeypatch.setattr(version_changes, "VECTORS_PER_READ_BYTES", 2 * 4 * DIM)
    with VersionChanges(Table.open(folder, 0), Table.open(folder, 1)) as changes:
        assert [len(rows) for rows in changes.upserts()] == [1, 1]
        assert [rows["id"].to_pylist() for rows in changes.upserts()] == [["b"], ["d"]]


def test_only_touched_shards_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_versions(str(tmp_path / "table"))
    for shard in (tmp_path / "table").glob("part-*B-*"):
        shard.unlink()
    assert write_changes(str(tmp_path / "table"), 0, 1, None).num_shards_read == 2
    for shard in (tmp_path / "table").glob("part-*A-*"):
        shard.unlink()
    with pytest.raises(TableError, match=r"2 of the 2 shards that hold the changes are gone \(vacuumed"):
        write_changes(str(tmp_path / "table"), 0, 1, None)


def test_the_output_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_versions(str(tmp_path / "table"))
    with pytest.raises(SettingsError, match=r"changes are written as \.parquet or \.jsonl"):
        write_changes(str(tmp_path / "table"), 0, 1, str(tmp_path / "feed.csv"))
    monkeypatch.setattr(change_feed, "_as_changes", lambda *_: 1 / 0)
    for name in ("feed.parquet", "feed.jsonl"):
        with pytest.raises(ZeroDivisionError):
            write_changes(str(tmp_path / "table"), 0, 1, str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


@pytest.mark.s3
def test_the_command_writes_the_changes_of_a_table_on_s3(tmp_path: Path, s3: S3Server, s3_bucket: str) -> None:
    two_versions(f"{s3_bucket}/table")
    write_bytes(f"{s3_bucket}/feed/old.txt", b"")
    arguments = ["changes", f"{s3_bucket}/table", "--from", "0", "--output", f"{s3_bucket}/feed/0-1.parquet", "--json"]
    done = CliRunner().invoke(app, arguments)
    answer = json.loads(done.stdout)
    assert done.exit_code == 0
    assert answer["num_upserts"] == 2
    assert answer["num_deletes"] == 1
    assert answer["to_version"] == 1
    feed = pl.read_parquet(s3.filesystem().cat_file(f"{s3_bucket}/feed/0-1.parquet"))
    assert feed["change"].to_list() == ["upsert", "upsert", "delete"]
