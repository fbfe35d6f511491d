"""Labels that arrive: found once handed over, whatever dies in between."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from sbert.labels.watch import count_rows, find_news, record_handed_over
from sbert.source.listing import list_objects


def write(path: Path, num_rows: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"text {n}", "label": "a"}) + "\n" for n in range(num_rows)))


def test_labels_are_new_until_they_are_handed_over_once(tmp_path: Path) -> None:
    labels, models = tmp_path / "labels", str(tmp_path / "models")
    assert find_news(str(labels), models).num_new_rows == 0
    write(labels / "a.jsonl", 5)
    first, again = find_news(str(labels), models), find_news(f"{labels}/", models)
    assert first.num_new_objects == 1
    assert first.num_new_rows == 5
    assert first.event_id == again.event_id  # a repetition after a crash can be told
    record_handed_over(first, models)
    assert find_news(str(labels), models).num_new_rows == 0
    write(labels / "b.jsonl", 3)
    second = find_news(str(labels), models)
    assert second.num_objects == 2
    assert second.num_new_objects == 1
    assert second.num_new_rows == 3
    assert second.event_id != first.event_id


def test_changed_labels_are_new_and_removed_ones_are_not(tmp_path: Path) -> None:
    labels, models = tmp_path / "labels", str(tmp_path / "models")
    write(labels / "a.jsonl", 5)
    write(labels / "b.jsonl", 5)
    record_handed_over(find_news(str(labels), models), models)
    (labels / "b.jsonl").unlink()
    assert find_news(str(labels), models).num_new_rows == 0
    write(labels / "a.jsonl", 6)
    assert find_news(str(labels), models).num_new_rows == 6


def test_two_folders_of_labels_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "one/a.jsonl", 5)
    write(tmp_path / "two/a.jsonl", 5)
    models = str(tmp_path / "models")
    record_handed_over(find_news(str(tmp_path / "one"), models), models)
    assert find_news(str(tmp_path / "two"), models).num_new_rows == 5


def test_an_unreadable_note_makes_all_labels_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels, models = tmp_path / "labels", tmp_path / "models"
    write(labels / "a.jsonl", 5)
    record_handed_over(find_news(str(labels), str(models)), str(models))
    next((models / "_watched").iterdir()).write_text("{")
    assert find_news(str(labels), str(models)).num_new_rows == 5
    assert "all labels count as new" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": "y"}\n', 2),
        ("a.csv", b'text,label\n"two\nlines",a\nother,b\n', 2),
        ("a.txt.gz", gzip.compress(b"one\ntwo\nthree", mtime=0), 3),
        ("a.jsonl.gz", b"not gzip", 1),
        ("a.parquet", b"not parquet", 1),
        ("empty.csv", b"", 0),
    ],
)
def test_rows_are_counted_without_being_understood(tmp_path: Path, name: str, content: bytes, expected: int) -> None:
    (tmp_path / name).write_bytes(content)
    assert count_rows(list_objects(str(tmp_path / name))[0]) == expected


def test_rows_of_parquet_are_in_its_footer(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["a"] * 7}).write_parquet(tmp_path / "a.parquet")
    assert count_rows(list_objects(str(tmp_path / "a.parquet"))[0]) == 7
