"""The whole flow: raw text in, table out, on local folders and on a real S3 server."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import (
    EmptySourceError,
    IncompleteError,
    MissingError,
    NotATableError,
)
from sbert.refresh.refresh_report import RefreshReport
from sbert.table.delta import Table
from tests.support.flow_runs import refresh
from tests.support.library_runs import rejects_of
from tests.support.tables import objects_apart, read, rows, texts, write, write_objects

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_first_run_encodes_every_row_and_a_second_run_has_nothing_to_do(tmp_path: Path, model: str) -> None:
    write_objects(tmp_path / "raw", 3, 20, prefix="part-")
    first = refresh(tmp_path / "raw", tmp_path / "table", model=model, keep_columns=["kind"], settings=objects_apart())
    assert first.version == 0
    assert first.num_rows == 60
    assert first.num_splits_built == 3
    assert first.num_rows_read == 60
    assert first.num_rows_encoded == 60
    assert first.num_texts_encoded == 60
    table = read(tmp_path / "table")
    assert table.columns == ["id", "source", "text_hash", "embedding", "num_tokens", "truncated", "kind"]
    expected = SentenceEncoder.from_pretrained(model).encode(texts(0, 60))
    by_id = {row["id"]: row for row in table.to_dicts()}
    np.testing.assert_allclose([by_id[str(n)]["embedding"] for n in range(60)], expected, atol=1e-5)
    assert by_id["21"]["source"] == str(tmp_path / "raw/part-1.jsonl")
    assert by_id["21"]["kind"] == "odd"
    again = refresh(tmp_path / "raw", tmp_path / "table", keep_columns=["kind"], settings=objects_apart())
    assert again.version == 0
    assert again.num_rows_read == 0
    assert again.num_texts_encoded == 0
    assert again.num_splits_kept == 3


def test_only_what_changed_is_encoded(tmp_path: Path, model: str) -> None:
    write_objects(tmp_path / "raw", 3, 20, prefix="part-")
    settings = objects_apart()
    refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    before = read(tmp_path / "table")
    changed = rows(20, 20)
    changed[4]["text"] = "a brand new text about butter and cake"
    write(tmp_path / "raw/part-1.jsonl", changed[:18])  # one text changed, two rows gone
    (tmp_path / "raw/part-2.jsonl").unlink()
    write(tmp_path / "raw/part-3.jsonl", rows(60, 5))
    report = refresh(tmp_path / "raw", tmp_path / "table", settings=settings, allow_drop=True)
    assert report.version == 1
    assert report.num_splits_built == 2
    assert report.num_splits_kept == 1
    assert report.num_splits_dropped == 2
    assert report.num_rows_read == 23
    assert report.num_rows_carried == 17
    assert report.num_rows_encoded == 6
    assert report.num_texts_encoded == 6
    after = read(tmp_path / "table")
    assert after.height == 20 + 18 + 5
    kept = after.join(before, on=["id", "source", "text_hash"], how="inner")
    assert kept["embedding"].to_list() == kept["embedding_right"].to_list()
    scratch = tmp_path / "scratch"
    refresh(tmp_path / "raw", scratch, model=model, settings=settings)
    rebuilt = read(scratch)
    assert after.drop("embedding").equals(rebuilt.drop("embedding"))
    np.testing.assert_allclose(after["embedding"].to_list(), rebuilt["embedding"].to_list(), atol=1e-5)
    assert Table.open(str(tmp_path / "table"), 0).num_rows == 60  # the old version stays readable


def test_an_interrupted_run_is_resumed_without_encoding(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_objects(tmp_path / "raw", 3, 20, prefix="part-")

    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.publish.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    with pytest.raises(NotATableError):
        Table.open(str(tmp_path / "table"))
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    assert report.num_splits_built == 0
    assert report.num_splits_resumed == 3
    assert report.num_texts_encoded == 0
    assert report.num_rows == 60


def test_a_record_whose_shards_are_gone_is_not_believed(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with monkeypatch.context() as patch:
        patch.setattr("tasks.publish.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refresh(tmp_path / "raw", tmp_path / "table", model=model)
    for shard in (tmp_path / "table").glob("part-*.parquet"):
        shard.unlink()
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.num_splits_built == 1
    assert report.num_rows == 10


def test_a_run_that_loses_the_commit_plans_anew(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    write(tmp_path / "raw/b.jsonl", rows(10, 10))
    from sbert.refresh import publish as library

    real, calls = library.publish, []

    def overtaken(*args: object) -> int:
        if not calls:
            calls.append("other run")
            with monkeypatch.context() as patch:
                patch.setattr("tasks.publish.publish", real)
                refresh(tmp_path / "raw", tmp_path / "table")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.publish.publish", overtaken)
    report = refresh(tmp_path / "raw", tmp_path / "table")
    assert report.version == 1
    assert report.num_rows == 20
    assert read(tmp_path / "table")["id"].n_unique() == 20


def test_dry_run_writes_nothing(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, dry_run=True)
    assert report.dry_run
    assert report.version is None
    assert report.num_splits_built == 1
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize(
    ("arrange", "error"), [(lambda raw: None, MissingError), (lambda raw: raw.mkdir(), EmptySourceError)]
)
def test_a_source_with_nothing_to_read_is_an_error_and_makes_no_table(
    tmp_path: Path, model: str, arrange: Callable[[Path], None], error: type[Exception]
) -> None:
    arrange(tmp_path / "raw")
    with pytest.raises(error, match="raw"):
        refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert not (tmp_path / "table").exists()


def test_a_broken_object_keeps_its_earlier_rows(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    for name, first in (("a", 0), ("b", 20), ("c", 40)):
        raw.mkdir(exist_ok=True)
        (raw / f"{name}.jsonl.gz").write_bytes(
            gzip.compress("".join(json.dumps(r) + "\n" for r in rows(first, 20)).encode())
        )
    refresh(raw, table, model=model)  # one pack of three objects
    good = (raw / "b.jsonl.gz").read_bytes()
    (raw / "b.jsonl.gz").write_bytes(good[: len(good) // 2])
    (raw / "c.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows(45, 20)).encode()))
    for attempt in range(2):
        with pytest.raises(IncompleteError, match=r"1 of 3 objects could not be read.*b\.jsonl\.gz") as caught:
            refresh(raw, table)
        report = caught.value.report
        assert isinstance(report, RefreshReport)
        assert report.version == 1, attempt
        assert report.num_rows == 60, attempt
        assert "Truncated" in report.broken_objects[str(raw / "b.jsonl.gz")]
        ids = set(map(int, read(table)["id"]))
        assert ids == {*range(40), *range(45, 65)}  # a as it was, b's earlier rows, c's new ones
    (raw / "b.jsonl.gz").write_bytes(good)
    assert refresh(raw, table).num_rows == 60


def test_bad_lines_are_rejected_and_the_others_embedded(tmp_path: Path, model: str) -> None:
    lines = [json.dumps(row).encode() for row in rows(0, 10)]
    lines[6] = b'{"id": "6", "text": broken'
    lines[3] = b'{"id": "3", "text": "caf\xe9"}'
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.jsonl").write_bytes(
        b"\n".join([*lines, b'{"id": "x", "text": null}', b'{"id": "y", "text": " "}'])
    )
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.rejects_by_reason == {"broken_row": 1, "empty_text": 1, "invalid_utf8": 1, "null_text": 1}
    assert set(read(tmp_path / "table")["id"]) == {str(n) for n in range(10) if n not in {3, 6}}
    rejected = rejects_of(str(tmp_path / "table")).sort("row")
    assert rejected["row"].to_list() == [4, 7, 11, 12]
    assert rejected["original"][0] == lines[3]
