"""Input as it should not be: each time a clear error or a counted reject, and nothing else is lost."""

import csv
import gzip
import io
import json
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError
from sbert.refresh.job import RefreshSettings
from sbert.refresh.run import _name_some
from tests.support.library_runs import ids_of, incomplete, refresh, rejects_of
from tests.support.tables import Rows, objects_apart, read, rows, write

LONG_BYTES = 5_000_000


def write_as(path: Path, lines: Rows) -> Path:
    """Write rows in the format that the ending of the name says; plain text has no ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame(lines).write_parquet(path)
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
        path.write_text(text.getvalue())
    elif path.suffix == ".txt":
        path.write_text("".join(f"{line['text']}\n" for line in lines))
    else:
        write(path, lines)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", b""),
        ("blank.jsonl", b"\n\n"),
        ("empty.csv", b""),
        ("header.csv", b"id,text\n"),
        ("header.csv.gz", None),
        ("empty.txt", b""),
        ("norows.parquet", None),
    ],
)
def test_an_object_without_rows_changes_nothing_beside_one_with_rows(
    tmp_path: Path, model: str, name: str, content: bytes | None
) -> None:
    write(tmp_path / "raw/good.jsonl", rows(0, 10))
    if name == "header.csv.gz":
        import gzip

        content = gzip.compress(b"id,text\n")
    if content is None:
        pl.DataFrame(schema={"id": pl.String, "text": pl.String}).write_parquet(tmp_path / "raw" / name)
    else:
        (tmp_path / "raw" / name).write_bytes(content)
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    assert report.num_objects == 2
    assert report.num_rows_read == 10
    assert report.num_rows == 10
    again = refresh(tmp_path / "raw", tmp_path / "table", settings=objects_apart())
    assert again.version == 0
    assert again.num_splits_built == 0


def test_objects_without_rows_make_an_empty_table(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/header.csv").write_text("id,text,lang\n")
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, keep_columns=["lang"])
    assert report.version == 0
    assert report.num_rows == 0
    assert read(tmp_path / "table").columns[-1] == "lang"
    write_as(tmp_path / "raw/rows.csv", [{"id": "1", "text": "red", "lang": "en"}])
    assert refresh(tmp_path / "raw", tmp_path / "table", keep_columns=["lang"]).num_rows == 1


@pytest.mark.parametrize("kept_bytes", [20, 200, -9])
def test_truncated_parquet_keeps_its_earlier_rows(tmp_path: Path, model: str, kept_bytes: int) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    write_as(raw / "a.parquet", rows(0, 20))
    write_as(raw / "b.parquet", rows(20, 20))
    refresh(raw, table, model=model, settings=objects_apart())
    (raw / "a.parquet").write_bytes((raw / "a.parquet").read_bytes()[:kept_bytes])
    write_as(raw / "b.parquet", rows(30, 20))
    report = incomplete(raw, table, settings=objects_apart())
    assert list(report.broken_objects) == [str(raw / "a.parquet")]
    assert ids_of(table) == {str(n) for n in [*range(20), *range(30, 50)]}
    write_as(raw / "a.parquet", rows(5, 10))
    refresh(raw, table, settings=objects_apart(), allow_drop=True)
    assert ids_of(table) == {str(n) for n in [*range(5, 15), *range(30, 50)]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_a_line_of_5_megabytes_is_rejected_or_truncated_by_the_settings(tmp_path: Path, model: str, name: str) -> None:
    lines = rows(0, 3)
    lines[1]["text"] = "butter " * (LONG_BYTES // 7)
    write_as(tmp_path / "raw" / name, lines)
    refused = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert refused.num_rows == 2
    assert refused.rejects_by_reason == {"too_long": 1}
    assert rejects_of(str(tmp_path / "table"))["row"].to_list() == [2]
    taken = refresh(tmp_path / "raw", tmp_path / "table", settings=objects_apart(cleaning={"max_chars": None}))
    assert taken.num_rows == 3
    assert taken.num_rows_truncated == 1
    assert read(tmp_path / "table")["num_tokens"].max() == LONG_BYTES // 7 + 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_invalid_utf8_costs_its_row_only(tmp_path: Path, model: str, name: str) -> None:
    lines = rows(0, 10)
    lines[6]["text"] = "caf@ au lait"
    lines[7]["text"] = "é" * 12  # the object is UTF-8
    path = write_as(tmp_path / "raw" / name, lines)
    if name.endswith(".parquet"):
        values = [str(line["text"]).encode().replace(b"@", b"\xe9") for line in lines]
        pl.DataFrame(lines).with_columns(pl.Series("text", values, dtype=pl.Binary)).write_parquet(path)
    else:
        path.write_bytes(path.read_bytes().replace(b"@", b"\xe9"))
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.num_rows_read == 10
    assert report.num_rows == 9
    assert report.rejects_by_reason == {"invalid_utf8": 1}
    rejected = rejects_of(str(tmp_path / "table"))
    assert rejected["row"].to_list() == [7]
    assert b"caf\xe9 au lait" in rejected["original"][0]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("wrong", ["text_column", "id_column", "keep_columns"])
def test_a_column_that_no_object_has_is_refused(tmp_path: Path, model: str, name: str, wrong: str) -> None:
    write_as(tmp_path / "raw" / name, rows(0, 5))
    value = ["boddy"] if wrong == "keep_columns" else "boddy"
    with pytest.raises(ColumnError, match=rf"{name}: no column 'boddy', the columns are: 'id', 'text', 'kind'"):
        refresh(tmp_path / "raw", tmp_path / "table", model=model, **{wrong: value})
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("name", ["b.csv", "b.parquet"])
def test_one_object_without_the_column_is_reported_as_broken(tmp_path: Path, model: str, name: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    write_as(tmp_path / "raw" / name, [{"id": "x", "body": "red"}])
    write(tmp_path / "raw/c.jsonl", rows(10, 10))
    report = incomplete(tmp_path / "raw", tmp_path / "table", model=model)
    assert "no column 'text', the columns are: 'id', 'body'" in report.broken_objects[str(tmp_path / "raw" / name)]
    assert ids_of(tmp_path / "table") == {str(n) for n in range(20)}


def test_rows_with_a_null_id_are_rejected_where_a_column_was_named(tmp_path: Path, model: str) -> None:
    lines = rows(0, 10)
    lines[4]["id"] = None
    write(tmp_path / "raw/a.jsonl", lines)
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, id_column="id")
    assert report.num_rows == 9
    assert report.rejects_by_reason == {"null_id": 1}
    derived = refresh(tmp_path / "raw", tmp_path / "derived", model=model)
    assert derived.num_rows == 10
    assert "a.jsonl:5" in ids_of(tmp_path / "derived")


def test_columns_kept_may_change_but_not_repeat(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    report = refresh(tmp_path / "raw", tmp_path / "table", keep_columns=["kind"])
    assert report.version == 1
    assert report.num_rows_carried == 10
    assert report.num_texts_encoded == 0
    assert set(read(tmp_path / "table")["kind"]) == {"even", "odd"}
    with pytest.raises(ValueError, match="keep_columns names a column twice"):
        RefreshSettings().with_source(keep_columns=["kind", "kind"])


def test_texts_count_as_encoded_when_their_pack_is_built_again_without_a_broken_object(
    tmp_path: Path, model: str
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    (tmp_path / "raw/b.jsonl.gz").write_bytes(gzip.compress(json.dumps(rows(10, 1)[0]).encode() + b"\n")[:-9])
    report = incomplete(tmp_path / "raw", tmp_path / "table", model=model)
    assert report.num_rows_encoded == 10
    assert report.num_rows == 10
    assert report.num_texts_encoded >= 10
    assert report.num_tokens_encoded >= 30
    again = incomplete(tmp_path / "raw", tmp_path / "table")
    assert again.num_splits_built == 0
    assert again.num_splits_kept == 1
    assert again.num_texts_encoded == 0


@pytest.mark.parametrize(
    ("num", "expected"), [(1, "0: cut"), (3, "0: cut; 1: cut; 2: cut"), (5, "0: cut; 1: cut; 2: cut; and 2 more")]
)
def test_the_error_names_the_first_objects_and_counts_the_others(num: int, expected: str) -> None:
    assert _name_some({str(number): "cut" for number in range(num)}) == expected
