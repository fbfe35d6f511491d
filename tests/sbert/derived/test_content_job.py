"""A content job computes no content twice, and its output is that of a full run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa

from sbert.derived.any_table import verify_any
from sbert.derived.content_job import ContentBlock, ContentFunction, ContentJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS, SplitInput
from sbert.derived.run import derive
from sbert.table.delta import Table
from tests.support.made_texts import make_text_version

CALLS: list[list[str]] = []


class WordsJob(ContentJob):
    """Lists the words of a text."""

    name: ClassVar[str] = "words"
    lower: bool = False

    def content_columns(self) -> pa.Schema:
        return pa.schema([pa.field("words", pa.list_(pa.string()))])

    def open_contents(self, table: Table) -> Callable[[SplitInput], Iterator[ContentBlock]]:
        def read(split: SplitInput) -> Iterator[ContentBlock]:
            for rows in split.rows([*KEY_COLUMNS, "text"]):
                yield rows, rows["text"].to_pylist()

        return read

    def open_function(self, table: Table, out_uri: str) -> ContentFunction:
        def words(texts: list[str]) -> pa.Table:
            CALLS.append(texts)
            return pa.table({"words": [(text.lower() if self.lower else text).split() for text in texts]})

        return words


def version(folder: str, **sources: list[str]) -> None:
    make_text_version(
        folder, {name: [(str(n), text, [1.0, n]) for n, text in enumerate(texts)] for name, texts in sources.items()}
    )


def rows_of(out: str) -> list[tuple[str, str, list[str]]]:
    rows = DerivedTable.open(out).scan().sort("source", "id").collect()
    return list(rows.select("source", "id", "words").iter_rows())


def test_only_new_contents_are_computed(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    CALLS.clear()
    version(table, a=["One two", "three", "three"], b=["four"])
    derive(WordsJob(), table, out)
    assert sorted(map(sorted, CALLS)) == [["One two", "three"], ["four"]]
    CALLS.clear()
    version(table, a=["three", "One two", "new", ""], b=["four"])
    report = derive(WordsJob(), table, out)
    assert report.num_rows_built == 4
    assert CALLS == [["new", ""]]
    assert rows_of(out) == [
        ("a", "0", ["three"]), ("a", "1", ["One", "two"]), ("a", "2", ["new"]), ("a", "3", []), ("b", "0", ["four"])
    ]  # fmt: skip
    assert verify_any(out).findings == []


def test_rows_that_move_to_another_split_are_not_computed_again(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    version(table, a=["one", "two"])
    derive(WordsJob(), table, out)
    CALLS.clear()
    version(table, b=["two"], c=["one", "two"])
    derive(WordsJob(), table, out)
    assert CALLS == []
    assert rows_of(out) == [("b", "0", ["two"]), ("c", "0", ["one"]), ("c", "1", ["two"])]


def test_other_settings_compute_everything_anew(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    version(table, a=["One"], b=["Two"])
    derive(WordsJob(), table, out)
    CALLS.clear()
    derive(WordsJob(lower=True), table, out)
    assert sorted(CALLS) == [["One"], ["Two"]]
    assert rows_of(out) == [("a", "0", ["one"]), ("b", "0", ["two"])]
    frame = DerivedTable.open(out).scan().collect()
    assert frame.schema["content_hash"] == pl.Binary
