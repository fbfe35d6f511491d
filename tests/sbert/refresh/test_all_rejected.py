"""A run that rejects every row that it read names the cause and the remedy, and begins no table with nothing."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sbert.erase.run import erase
from sbert.errors import IncompleteError
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import refresh
from sbert.table.erased_keys import ErasedKeys
from tests.support.refreshing import refreshed
from tests.support.tables import read, rows, write


def job_of(folder: Path, model: str, settings: dict[str, Any]) -> RefreshJob:
    """Return the job that brings ``table`` up to date with ``raw``."""
    return RefreshJob(
        raw_uri=str(folder / "raw"),
        table_uri=str(folder / "table"),
        model=model,
        settings=RefreshSettings.model_validate(settings),
    )


def jsonl(*records: dict[str, Any]) -> bytes:
    """Return JSON Lines."""
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


CASES: dict[str, tuple[str, bytes, dict[str, Any], str, str]] = {
    "no such column": (
        "a.jsonl",
        jsonl({"id": 1, "text": None}, {"id": 2, "text": None}),
        {},
        "2 of 2 rows were rejected (2 null_text), and nothing was published: RAW/a.jsonl, row 1: column 'text' is missing or "
        "null. Check that text_column (--text-column), which is 'text', names the column that holds the text; ",
        "null_text",
    ),
    "empty parts": (
        "a.jsonl",
        jsonl({"a": "", "b": None}),
        {"source": {"text_column": "{a}. {b}"}},
        "row 1: all parts of '{a}. {b}' are empty. Check that text_column (--text-column), which is '{a}. {b}', names",
        "null_text",
    ),
    "empty column": ("a.csv", b"text,body\n,red\n,green\n", {}, "Check that text_column", "empty_text"),
    "no ids": (
        "a.jsonl",
        jsonl({"text": "red", "key": None}),
        {"source": {"id_column": "key"}},
        "Check that id_column (--id-column), which is 'key', names a column that is never empty, or leave it out",
        "null_id",
    ),
    "an object": (
        "a.jsonl",
        jsonl({"text": {"summary": "red"}}),
        {},
        "column 'text' holds a JSON object, expected one text. Name a value inside the column, with braces, such as "
        "{column.field}, in text_column",
        "bad_value",
    ),
    "CSV that is called JSON Lines": (
        "a.jsonl",
        b"red,green\nred,green\n",
        {},
        "not JSON: Expecting value: line 1 column 1 (char 0). Check that the objects are written in the format",
        "broken_row",
    ),
    "another encoding": (
        "a.jsonl",
        '{"text": "café"}\n'.encode("cp1252"),
        {},
        "Set source.encoding to the encoding of the objects",
        "invalid_utf8",
    ),
    "too short": (
        "a.jsonl",
        jsonl({"text": "red"}),
        {"cleaning": {"min_chars": 9}},
        "names the column that holds the text; or lower cleaning.min_chars, which is 9; ",
        "too_short",
    ),
    "too long": (
        "a.jsonl",
        jsonl({"text": "red green"}),
        {"cleaning": {"max_chars": 4}},
        "Raise cleaning.max_chars, which is 4, or reading.max_row_bytes, which is 67108864",
        "too_long",
    ),
    "too many tokens": (
        "a.jsonl",
        jsonl({"text": "red " * 300}),
        {"encoding": {"truncation": "reject"}},
        "Set encoding.truncation to truncate or window",
        "too_many_tokens",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_table_is_begun_with_nothing_but_rejected_rows(tmp_path: Path, model: str, case: str) -> None:
    name, content, settings, said, reason = CASES[case]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(content)
    job = job_of(tmp_path, model, settings)
    reports = []
    for _ in range(2):
        with pytest.raises(IncompleteError) as caught:
            refresh(job)
        assert said.replace("RAW", str(tmp_path / "raw")) in str(caught.value)
        assert str(caught.value).endswith(f"; {tmp_path}/table/_rejected holds the rejected rows")
        assert isinstance(caught.value.report, RefreshReport)
        reports.append(caught.value.report)
        assert not (tmp_path / "table/_delta_log").exists()
        assert list((tmp_path / "table/_rejected").iterdir())
    assert reports[0].rejects_by_reason == {reason: reports[0].num_rows_read}
    assert reports[0].all_rejected == str(caught.value)
    assert reports[1].num_splits_resumed == 1
    for report in reports:
        assert report.version is None
        assert report.num_rows == 0
        assert not report.complete
    write(tmp_path / "raw/b.jsonl", [{"key": "7", "text": "red green blue", "a": "red"}])
    accepted = refresh(
        job.model_copy(update={"settings": job_of(tmp_path, model, {"source": settings.get("source", {})}).settings})
    )
    assert accepted.version == 0
    assert accepted.complete


def test_documents_without_text_are_explained_by_their_format(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.html").write_text("<html><body><img src=a.png></body></html>")
    with pytest.raises(IncompleteError, match=r"1 of 1 rows .*a\.html, row 1: .*_rejected holds") as caught:
        refresh(job_of(tmp_path, model, {}))
    assert "text_column" not in str(caught.value)


def test_the_report_counts_the_rejected_rows(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", [{"body": "red"}, {"body": "green", "text": None}])
    with pytest.raises(IncompleteError) as caught:
        refresh(job_of(tmp_path, model, {}))
    report = caught.value.report
    assert isinstance(report, RefreshReport)
    assert report.num_rows_read == 2
    assert report.num_rows_rejected == 2
    assert report.rejects_by_reason == {"null_text": 2}
    assert report.summary().startswith(
        "No version: 0 rows, 0 encoded, 0 carried over, 2 rejected: 2 of 2 rows were rejected"
    )


def test_unreadable_objects_beside_rejected_rows_are_named_too(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", [{"text": None}])
    (tmp_path / "raw/b.json").write_text("nonsense")
    with pytest.raises(
        IncompleteError, match=r"1 of 1 rows were rejected .* 1 of 2 objects could not be read: .*b\.json"
    ):
        refresh(job_of(tmp_path, model, {}))


def test_a_night_of_rejected_rows_only_gives_a_warning(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 3))
    refresh(job_of(tmp_path, model, {}))
    write(tmp_path / "raw/b.jsonl", [{"text": ""}, {"txt": "red"}, {"txt": "green"}])
    with caplog.at_level(logging.WARNING, "sbert"):
        report = refresh(job_of(tmp_path, model, {"splits": {"pack_below_bytes": 0}}))
    said = f"3 of 3 rows were rejected (1 empty_text, 2 null_text): {tmp_path}/raw/b.jsonl, row 2: column 'text' is missing"
    assert report.num_rows == 3
    assert report.complete
    assert report.all_rejected.startswith(said)
    assert said in caplog.text
    assert report.summary().endswith(report.all_rejected)
    again = refresh(job_of(tmp_path, model, {}))
    assert again.num_rows == 3
    assert again.all_rejected == ""


def test_rows_that_were_erased_are_no_fault(tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 1))
    refreshed(tmp_path / "raw", tmp_path / "table", model)
    erase(str(tmp_path / "table"), ErasedKeys(ids=["0"]))
    settings = {"cleaning": {"min_chars": 2}}  # builds the split anew
    with caplog.at_level(logging.WARNING, "sbert"):
        report = refreshed(tmp_path / "raw", tmp_path / "table", model, settings).report
    assert report.rejects_by_reason == {"erased": 1}
    assert report.all_rejected == ""
    assert report.complete
    assert read(tmp_path / "table").is_empty()
