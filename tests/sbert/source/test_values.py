"""Values that do not fit: never changed or lost in silence, and never decided by the row's neighbours."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from sbert.source.blocks import RowBlock
from sbert.source.settings import SourceSettings
from tests.support.reading import read_all

BROKEN = "{broken"
"""A line that sends its whole block through the reader that looks at each line."""


def read(
    folder: Path,
    lines: list[dict[str, object]],
    *,
    by_line: bool,
    keep: tuple[str, ...] = (),
    kept_schema: dict[str, pl.DataType] | None = None,
) -> RowBlock:
    text = "".join(json.dumps(line) + "\n" for line in lines) + (BROKEN if by_line else "")
    (folder / "b.jsonl").write_text(text)
    block = read_all(folder, SourceSettings(keep_columns=tuple(kept_schema or keep)), kept_schema=kept_schema)
    return RowBlock(block.rows, block.rejects.filter(pl.col("reason") != "broken_row"), block.misfits)


@pytest.mark.parametrize("by_line", [False, True])
def test_numbers_and_truth_values_are_written_plainly_as_text_and_id(tmp_path: Path, by_line: bool) -> None:
    values = [7, 2.5, 1.0, 1e5, 1e16, 1.5e-7, -0.0, True, 10**30]
    block = read(tmp_path, [{"id": value, "text": value} for value in values], by_line=by_line)
    expected = ["7", "2.5", "1.0", "100000.0", "1e+16", "1.5e-07", "-0.0", "true", "1" + "0" * 30]
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
    ("kind", "bad"),
    [
        (pl.Int64(), 3.5),
        (pl.Int64(), "x"),
        (pl.Int64(), "02139"),
        (pl.Int64(), 2**63),
        (pl.Int64(), -(10**40)),
        (pl.Int64(), True),
        (pl.Int64(), [1]),
        (pl.Int64(), {"a": 1}),
        (pl.Float64(), "x"),
        (pl.Float64(), "007.5"),
        (pl.Boolean(), 1),
        (pl.Boolean(), "x"),
        (pl.Date(), "31.12.2026"),
        (pl.Datetime("us", "UTC"), "yesterday"),
        (pl.Decimal(20, 0), "x"),
    ],
)
def test_a_kept_value_that_does_not_fit_its_column_is_null_and_the_row_stays(
    tmp_path: Path, kind: pl.DataType, bad: object, by_line: bool
) -> None:
    lines: list[dict[str, object]] = [{"text": "bad", "n": bad}, {"text": "good", "n": None}]
    block = read(tmp_path, lines, by_line=by_line, kept_schema={"n": kind})
    assert block.rows["text"].to_list() == ["bad", "good"]
    assert block.rows["kept:n"].to_list() == [None, None]
    assert block.rejects.height == 0
    (misfit,) = block.misfits.rows(named=True)
    assert misfit["source"] == str(tmp_path / "b.jsonl")
    assert misfit["row"] == 1
    assert misfit["column"] == "n"
    assert misfit["type"] == str(kind)
    assert misfit["original"] == (bad if isinstance(bad, str) else json.dumps(bad))


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pl.Int64(), "7", 7),
        (pl.Int64(), 4.0, 4),
        (pl.Int64(), "", None),
        (pl.Float64(), 10**40, 1e40),
        (pl.Float64(), "1.50", 1.5),
        (pl.Float64(), "NaN", None),
        (pl.Boolean(), "FALSE", False),
        (pl.Date(), "2026-12-31", dt.date(2026, 12, 31)),
        (pl.Datetime("us"), "2026-12-31 23:59:00.5", dt.datetime(2026, 12, 31, 23, 59, 0, 500_000)),  # noqa: DTZ001
        (pl.Datetime("us", "UTC"), "2026-12-31T23:59:00", dt.datetime(2026, 12, 31, 23, 59, tzinfo=dt.UTC)),
        (pl.Datetime("us", "UTC"), "2026-12-31T23:59:00Z", dt.datetime(2026, 12, 31, 23, 59, tzinfo=dt.UTC)),
        (pl.Datetime("us", "UTC"), "2026-12-31T23:59:00+01:00", dt.datetime(2026, 12, 31, 22, 59, tzinfo=dt.UTC)),
        (pl.String(), [1, "x"], '[1, "x"]'),
    ],
)
def test_a_kept_value_may_be_written_in_another_way_of_its_type(
    tmp_path: Path, kind: pl.DataType, value: object, expected: object, by_line: bool
) -> None:
    block = read(tmp_path, [{"text": "x", "n": value}], by_line=by_line, kept_schema={"n": kind})
    assert block.rows["kept:n"].to_list() == [expected]
    assert block.misfits.height == 0


def test_misfits_of_rejected_rows_are_not_counted(tmp_path: Path) -> None:
    block = read(tmp_path, [{"text": None, "n": "x"}], by_line=False, kept_schema={"n": pl.Int64()})
    assert block.rejects["reason"].to_list() == ["null_text"]
    assert block.misfits.height == 0


def test_whole_numbers_too_large_for_64_bits_are_kept_digit_by_digit(tmp_path: Path) -> None:
    block = read(tmp_path, [{"text": "a", "n": 2**63 + 1}, {"text": "b", "n": 5}], by_line=False, keep=("n",))
    assert block.rows["kept:n"].to_list() == [str(2**63 + 1), "5"]


def test_a_fraction_is_not_cut_off_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["a"], "n": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"text": ["b", "c"], "n": [3.5, 4.0]}).write_parquet(tmp_path / "b.parquet")
    keep_n = SourceSettings(keep_columns=("n",))
    of_table = read_all(tmp_path, keep_n, kept_schema={"n": pl.Int64()})
    assert of_table.rows["kept:n"].to_list() == [1, None, 4]
    assert of_table.misfits.select("row", "column", "original").rows() == [(1, "n", "3.5")]
    new = read_all(tmp_path, keep_n)
    assert new.rows["kept:n"].to_list() == [1, 3.5, 4]


@pytest.mark.parametrize("folder", ["with [brackets]", "what?", "st*r"])
def test_a_folder_whose_name_looks_like_a_pattern_is_read(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.jsonl").write_text('{"text": "x"}\n')
    assert read_all(tmp_path / folder).rows["source"].to_list() == [str(tmp_path / folder / "a.jsonl")]


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, 12)], pl.Date(), [dt.date(2026, 1, 1), None]),  # noqa: DTZ001
        ([2**53, 2**53 + 1], pl.Float64(), [2.0**53, None]),
        ([Decimal("1.50"), Decimal("1.55")], pl.Decimal(10, 1), [Decimal("1.5"), None]),
        ([1.5, 1.555], pl.Decimal(10, 2), [Decimal("1.50"), None]),
        ([0.5, 0.1], pl.Float32(), [0.5, None]),
        ([7, 2**40], pl.Int32(), [7, None]),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "delta"])
def test_a_value_that_would_be_rounded_or_cut_does_not_fit(
    tmp_path: Path, ending: str, values: list[object], kind: pl.DataType, kept: list[object]
) -> None:
    frame = pl.DataFrame({"text": ["a", "b"], "v": values})
    if ending == "delta":
        write_deltalake(str(tmp_path / "t"), frame.to_arrow())
    else:
        frame.write_parquet(tmp_path / "a.parquet")
    block = read_all(tmp_path, SourceSettings(keep_columns=("v",)), kept_schema={"v": kind})
    assert block.rows.sort("text")["kept:v"].to_list() == kept
    assert block.misfits["column"].to_list() == ["v"]
    assert block.rejects.is_empty()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "delta", "folder"])
def test_a_value_that_does_not_fit_costs_no_row_in_any_format(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"text": ["a", "b"], "v": ["7", "02139"]})
    if ending == "delta":
        write_deltalake(str(tmp_path / "t"), frame.to_arrow(), partition_by=["v"])
    elif ending == "folder":
        for text, value in frame.rows():
            (tmp_path / f"v={value}").mkdir()
            (tmp_path / f"v={value}/a.csv").write_text(f"text\n{text}\n")
    else:
        path = tmp_path / f"a.{ending}"
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    block = read_all(tmp_path, SourceSettings(keep_columns=("v",)), kept_schema={"v": pl.Int64()})
    assert dict(block.rows.select("text", "kept:v").rows()) == {"a": 7, "b": None}
    assert block.misfits.select("column", "original").rows() == [("v", "02139")]
    assert block.rejects.is_empty()
