"""``sbert search`` for people: a table where it fits, else a block a hit; nothing is wider than the window."""

from typing import Any

import pytest
import typer

from flows.cli.output import out
from flows.cli.search import Mode, _check_usage, _show_search
from sbert.index.search_settings import SearchMode

TEXT = "Return a date from a string in ISO 8601 format, such as 2026-11-28, or raise an error that names the string."


def hits(*, text: str = TEXT) -> dict[str, Any]:
    names = ["datetime.date.fromisoformat", "datetime.datetime.strptime", "[bold]", "二" * 30]
    return {
        "query": "how do I parse a date",
        "way": {"version": 0, "num_rows": 4},
        "results": [
            {"id": name, "source": "s3://bucket/raw/python-method.jsonl", "score": 0.9, "kind": "method", "text": text}
            for name in names
        ],
    }


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 160])
def test_every_hit_is_readable_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", width)
    _show_search(hits())
    lines = shown(capsys)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in ("0.900", "datetime.date.fromisoformat", "[bold]", "method", "python-method.jsonl", "Return a date"):
        assert part in text


def test_a_window_that_is_wide_enough_gets_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", 160)
    _show_search(hits())
    header = next(line for line in shown(capsys) if "score" in line)
    assert header.split() == ["score", "id", "kind", "text", "source"]


def test_passages_show_document_headings_and_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", 60)
    passage = {"document_id": "book.md:1", "passage": TEXT, "start": 4711, "end": 4800, "headings": "Pumps > Oil"}
    result = {"id": "book.md:1#7", "source": "s3://bucket/raw/book.md", "score": 0.9, **passage}
    _show_search({"query": "oil", "way": {"version": 0, "num_rows": 4}, "results": [result]})
    text = "\n".join(shown(capsys))
    for part in ("book.md:1#7", "Pumps > Oil", "Return a date"):
        assert part in text
    assert "4711" not in text


def test_the_option_has_all_modes_of_a_search() -> None:
    assert [mode.value for mode in Mode] == [mode.value for mode in SearchMode]


def test_a_search_without_hits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _show_search({"query": "anything", "results": [], "way": {"version": 0, "num_rows": 0}})
    assert "nearest to: anything: no row was found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "queries_uri", "output", "message"),
    [
        (None, None, None, "give one query, or a file of them with --queries"),
        ("red", "queries.csv", "hits.parquet", "give one query, or a file of them with --queries"),
        (None, "queries.csv", None, "--queries and --output belong together"),
        ("red", None, "hits.parquet", "--queries and --output belong together"),
    ],
)
def test_one_query_or_a_file_of_them_with_an_output(
    query: str | None, queries_uri: str | None, output: str | None, message: str
) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        _check_usage(query, queries_uri, output)
