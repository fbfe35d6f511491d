"""Values that do not fit: never changed or lost in silence, and never decided by the row's neighbours."""

import json
from pathlib import Path

import polars as pl
import pytest

from sbert.source.blocks import RowBlock
from sbert.source.settings import SourceSettings
from tests.sbert.source.test_reading import read_all

BROKEN = "{broken"
"""A line that sends its whole block through the reader that looks at each line."""


def read(folder: Path, lines: list[dict[str, object]], *, by_line: bool, keep: tuple[str, ...] = ()) -> RowBlock:
    text = "".join(json.dumps(line) + "\n" for line in lines) + (BROKEN if by_line else "")
    (folder / "b.jsonl").write_text(text)
    block = read_all(folder, SourceSettings(keep_columns=keep))
    return RowBlock(block.rows, block.rejects.filter(pl.col("reason") != "broken_row"))


@pytest.mark.parametrize("by_line", [False, True])
def test_numbers_and_truth_values_as_text_and_id(tmp_path: Path, by_line: bool) -> None:
    values = [7, 2.5, 1.0, 1e5, 1e16, 1.5e-7, -0.0, True, 10**30]
    block = read(tmp_path, [{"id": value, "text": value} for value in values], by_line=by_line)
    expected = ["7", "2.5", "1", "100000", "10000000000000000", "0.00000015", "-0", "true", "1" + "0" * 30]
    assert block.rows["id"].to_list() == expected
    assert block.rows["text"].to_list() == expected


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("value", [["a"], {"a": 1}, []])
def test_nested_text_is_rejected_alone(tmp_path: Path, value: object, by_line: bool) -> None:
    block = read(tmp_path, [{"text": value}, {"text": 'brackets are fine: "text": ['}], by_line=by_line)
    assert block.rows["row"].to_list() == [2]
    assert block.rejects.select("row", "reason").rows() == [(1, "bad_value")]


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize(
    ("first", "bad"),
    [
        (1, 3.5),
        (1, "x"),
        (1, 2**63),
        (1, -(10**40)),
        (1, True),
        (1, [1]),
        (1, {"a": 1}),
        (1.5, "x"),
        (True, 1),
        (True, "x"),
    ],
)
def test_a_kept_value_that_does_not_fit_its_column(tmp_path: Path, first: object, bad: object, by_line: bool) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "decides the type", "n": first}) + "\n")
    lines: list[dict[str, object]] = [{"text": "bad", "n": bad}, {"text": "good", "n": None}]
    block = read(tmp_path, lines, by_line=by_line, keep=("n",))
    assert block.rows["text"].to_list() == ["decides the type", "good"]
    assert block.rows["kept:n"].to_list() == [first, None]
    assert block.rejects.select("row", "reason").rows() == [(1, "bad_value")]
    assert json.loads(block.rejects["original"][0]) == {"text": "bad", "n": bad}


@pytest.mark.parametrize("by_line", [False, True])
def test_kept_values_that_fit_though_written_otherwise(tmp_path: Path, by_line: bool) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "types", "n": 1, "f": 0.5, "b": True}) + "\n")
    block = read(tmp_path, [{"text": "x", "n": "7", "f": 10**40, "b": "FALSE"}], by_line=by_line, keep=("n", "f", "b"))
    assert block.rows.select("kept:n", "kept:f", "kept:b").rows() == [(1, 0.5, True), (7, 1e40, False)]


def test_whole_numbers_too_large_for_64_bits_are_kept_digit_by_digit(tmp_path: Path) -> None:
    block = read(tmp_path, [{"text": "a", "n": 2**63 + 1}, {"text": "b", "n": 5}], by_line=False, keep=("n",))
    assert block.rows["kept:n"].to_list() == [str(2**63 + 1), "5"]


def test_a_fraction_is_not_cut_off_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["a"], "n": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"text": ["b", "c"], "n": [3.5, 4.0]}).write_parquet(tmp_path / "b.parquet")
    block = read_all(tmp_path, SourceSettings(keep_columns=("n",)))
    assert block.rows["kept:n"].to_list() == [1, 4]
    assert block.rejects.select("row", "reason").rows() == [(1, "bad_value")]


@pytest.mark.parametrize("folder", ["with [brackets]", "what?", "st*r"])
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.jsonl").write_text('{"text": "x"}\n')
    assert read_all(tmp_path / folder).rows["source"].to_list() == [str(tmp_path / folder / "a.jsonl")]
