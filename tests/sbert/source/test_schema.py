"""Types of kept columns: taken from all objects, in any order, and only such as a table can hold."""

import datetime as dt
import itertools
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from sbert.errors import ColumnError, SettingsError
from sbert.source.listing import list_objects
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import SourceSettings
from tests.support.reading import read_all
from tests.support.refreshing import refreshed


def types(raw: Path, *keep: str) -> dict[str, pl.DataType]:
    return infer_kept_schema(list_objects(str(raw)), SourceSettings(keep_columns=keep))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["02139", "10115"], pl.String()),
        (["1.10", "2.5"], pl.String()),
        (["1e5", "2"], pl.String()),
        (["12345678901234567890", "1"], pl.String()),
        (["9223372036854775807", "-5"], pl.Int64()),
        (["9223372036854775808"], pl.String()),
        (["+7"], pl.String()),
        (["-0"], pl.String()),
        (["7 "], pl.String()),
        (["0.1", "2", "3.0", "", "NaN"], pl.Float64()),
        (["0.30000000000000004"], pl.Float64()),
        (["0.300000000000000041"], pl.String()),
        (["true", "False", ""], pl.Boolean()),
        (["true", "1"], pl.String()),
        (["", ""], pl.String()),
        (["2026-01-01"], pl.String()),
    ],
)
def test_a_csv_value_is_a_number_only_when_it_writes_back_the_same(
    tmp_path: Path, values: list[str], expected: pl.DataType
) -> None:
    pl.DataFrame({"text": ["x"] * len(values), "v": values}).write_csv(tmp_path / "a.csv", quote_style="always")
    assert types(tmp_path, "v") == {"v": expected}
    if expected == pl.String():
        kept = read_all(tmp_path, SourceSettings(keep_columns=("v",))).rows["kept:v"]
        assert kept.to_list() == values


def test_a_type_does_not_depend_on_the_order_of_the_objects(tmp_path: Path) -> None:
    contents = {
        "whole": '{"text": "a", "v": 1, "only": true}',
        "fraction": '{"text": "b", "v": 2.5}',
        "null": '{"text": "c", "v": null}',
        "absent": '{"text": "d"}',
    }
    for number, order in enumerate(itertools.permutations(contents)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for place, name in enumerate(order):
            (folder / f"{place}.jsonl").write_text(contents[name])
        block = read_all(folder, SourceSettings(keep_columns=("v", "only")))
        assert block.rows.schema["kept:v"] == pl.Float64
        assert block.rows.schema["kept:only"] == pl.Boolean
        by_text = dict(block.rows.select("text", "kept:v").rows())
        assert by_text == {"a": 1.0, "b": 2.5, "c": None, "d": None}
        assert dict(block.rows.select("text", "kept:only").rows())["d"] is None
        assert block.rejects.height == block.misfits.height == 0


@pytest.mark.parametrize("lacking", ["a", "z"])
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_kept_column_that_an_object_lacks_is_null_there(tmp_path: Path, lacking: str, ending: str) -> None:
    for name, frame in (
        (lacking, pl.DataFrame({"text": ["without"]})),
        ("m", pl.DataFrame({"text": ["with"], "lang": ["de"]})),
    ):
        path = tmp_path / f"{name}.{ending}"
        {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    (tmp_path / "n.txt").write_text("plain")
    block = read_all(tmp_path, SourceSettings(keep_columns=("lang",)))
    assert dict(block.rows.select("text", "kept:lang").rows()) == {"without": None, "with": "de", "plain": None}


def test_a_column_that_no_object_has_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("text,other\nx,y\n")
    with pytest.raises(
        ColumnError, match=r"a.csv: no column 'lang', the columns are: 'text', 'other' \(nor in 1 other"
    ):
        types(tmp_path, "lang")


def test_a_text_column_that_only_a_later_object_has_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("other\ny\n")
    (tmp_path / "b.csv").write_text("text\nx\n")
    assert types(tmp_path) == {}


KINDS: dict[str, tuple[pl.Series, pl.DataType, list[object]]] = {
    "duration": (pl.Series([dt.timedelta(seconds=1), None]), pl.Int64(), [1_000_000, None]),
    "time": (pl.Series([dt.time(1, 2, 3), None]), pl.String(), ["01:02:03", None]),
    "time with a fraction": (pl.Series([dt.time(1, 2, 3, 500), None]), pl.String(), ["01:02:03.000500", None]),
    "uint64": (pl.Series([2**64 - 1, None], dtype=pl.UInt64), pl.Decimal(20, 0), [Decimal(2**64 - 1), None]),
    "uint32": (pl.Series([2**32 - 1, None], dtype=pl.UInt32), pl.Int64(), [2**32 - 1, None]),
    "decimal": (
        pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
        pl.Decimal(10, 2),
        [Decimal("1.50"), None],
    ),
    "category": (pl.Series(["a", None], dtype=pl.Categorical), pl.String(), ["a", None]),
    "nanoseconds": (
        pl.Series([dt.datetime(2026, 1, 1), None], dtype=pl.Datetime("ns")),  # noqa: DTZ001
        pl.Datetime("us"),
        [dt.datetime(2026, 1, 1), None],  # noqa: DTZ001
    ),
    "bytes": (pl.Series([b"\xff", None]), pl.Binary(), [b"\xff", None]),
    "list": (pl.Series([["a", "b"], None]), pl.String(), ['["a","b"]', None]),
    "list of bytes": (pl.Series([[b"a"], None]), pl.String(), ['["a"]', None]),
    "struct": (pl.Series([{"k": 1, "t": dt.date(2026, 1, 1)}, None]), pl.String(), ['{"k":1,"t":"2026-01-01"}', None]),
    "nulls": (pl.Series([None, None]), pl.String(), [None, None]),
}


def test_every_type_of_parquet_is_kept_by_a_stated_rule_and_readable_in_the_table(tmp_path: Path, model: str) -> None:
    frame = pl.DataFrame({"text": ["x", "y"], **{name: series for name, (series, _, _) in KINDS.items()}})
    (tmp_path / "raw").mkdir()
    frame.write_parquet(tmp_path / "raw/a.parquet")
    expected_types = {name: kind for name, (_, kind, _) in KINDS.items()}
    assert types(tmp_path / "raw", *KINDS) == expected_types
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model, {"source": {"keep_columns": tuple(KINDS)}})
    assert outcome.report.complete
    assert outcome.report.misfits_by_column == {}
    table = pl.from_arrow(DeltaTable(str(tmp_path / "table")).to_pyarrow_table())
    assert isinstance(table, pl.DataFrame)
    for name, (_, _, values) in KINDS.items():
        assert table.sort("id")[name].to_list() == values, name


def test_whole_numbers_above_64_bits_in_csv_are_kept_digit_by_digit(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text(f"text,n\na,{2**63}\nb,5\n")
    refreshed(tmp_path / "raw", tmp_path / "table", model, {"source": {"keep_columns": ("n",)}})
    assert sorted(pl.read_delta(str(tmp_path / "table"))["n"]) == ["5", str(2**63)]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_null_in_json_lines(tmp_path: Path, word: str) -> None:
    lines = [f'{{"id": 1, "text": {word}}}', f'{{"id": {word}, "text": "b", "v": {word}}}', '{"text": "c", "v": 1.5}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    block = read_all(tmp_path, SourceSettings(keep_columns=("v",)))
    assert block.rows.select("id", "text", "kept:v").rows() == [("a.jsonl:2", "b", None), ("a.jsonl:3", "c", 1.5)]
    assert block.rejects.select("row", "reason").rows() == [(1, "null_text")]


def test_a_number_that_is_none_is_null_as_text_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"text": [float("nan"), 2.5], "id": [1.0, float("nan")]}).write_parquet(tmp_path / "a.parquet")
    block = read_all(tmp_path)
    assert block.rows.select("id", "text").rows() == [("a.parquet:2", "2.5")]
    assert block.rejects.select("row", "reason").rows() == [(1, "null_text")]


def test_a_later_fraction_costs_no_row_and_is_kept_beside_the_table(tmp_path: Path, model: str) -> None:
    settings = {"source": {"keep_columns": ("n",)}}
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.jsonl").write_text('{"id": 1, "text": "one", "n": 1}\n')
    refreshed(tmp_path / "raw", tmp_path / "table", model, settings)
    lines = [{"id": 2, "text": "two", "n": 3.5}, {"id": 3, "text": "three", "n": 3}, {"id": 4, "text": "", "n": 4.5}]
    (tmp_path / "raw/b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model, settings)
    table = pl.read_delta(str(tmp_path / "table"))
    assert dict(table.select("id", "n").rows()) == {"1": 1, "2": None, "3": 3}
    assert outcome.report.misfits_by_column == {"n": 1}
    assert outcome.report.rejects_by_reason == {"empty_text": 1}
    (record,) = outcome.diff.built
    assert record.misfits is not None
    misfits = pl.read_parquet(tmp_path / "table" / record.misfits)
    assert misfits.select("row", "id", "column", "type", "original").rows() == [(1, "2", "n", "Int64", "3.5")]
    again = refreshed(tmp_path / "raw", tmp_path / "table", model, settings)
    assert again.report.num_splits_built == 0


def test_column_types_fix_the_types_of_kept_columns(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text("text,code,day,price\na,7,2026-11-01,1.5\nb,08,soon,2.25\nc,9,,x\n")
    fixed = {"code": "string", "day": "date", "price": "decimal(10,2)"}
    settings = {"source": {"keep_columns": list(fixed), "column_types": fixed}}
    report = refreshed(tmp_path / "raw", tmp_path / "table", model, settings).report
    assert report.misfits_by_column == {"day": 1, "price": 1}
    table = pl.read_delta(str(tmp_path / "table")).sort("id")
    assert table["code"].to_list() == ["7", "08", "9"]
    assert table["day"].to_list() == [dt.date(2026, 11, 1), None, None]
    assert table["price"].to_list() == [Decimal("1.50"), Decimal("2.25"), None]


def test_another_column_type_changes_the_table_without_encoding(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text("text,n,m\na,7,1\nb,8,2\n")
    refreshed(tmp_path / "raw", tmp_path / "table", model, {"source": {"keep_columns": ["n", "m"]}})
    named = {"source": {"column_types": {"n": "string"}}}
    changed = refreshed(tmp_path / "raw", tmp_path / "table", settings=named)
    assert changed.report.num_rows_encoded == 0
    table = pl.read_delta(str(tmp_path / "table"))
    assert sorted(table["n"]) == ["7", "8"]
    assert sorted(table["m"]) == [1, 2]
    assert refreshed(tmp_path / "raw", tmp_path / "table").plan.is_empty


def test_a_type_of_a_column_that_is_not_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\na,7\n")
    with pytest.raises(SettingsError, match="column_types names m, but the kept columns are n"):
        infer_kept_schema(list_objects(str(tmp_path)), SourceSettings(keep_columns=("n",), column_types={"m": "date"}))
    source = SourceSettings(keep_columns=("n",), column_types={"n": "decimal(39,0)"})
    with pytest.raises(SettingsError, match=r"decimal\(39,0\): a decimal has a precision of 1 to 38 digits"):
        infer_kept_schema(list_objects(str(tmp_path)), source)
    with pytest.raises(ValueError, match="column_types"):
        SourceSettings(column_types={"n": "money"})


def test_decimals_of_256_bits_are_text_where_38_digits_are_too_few(tmp_path: Path) -> None:
    wide, narrow = Decimal("1" * 40 + ".50"), Decimal("1.50")
    columns = {
        "text": pa.array(["a", "b"]),
        "wide": pa.array([wide, None], pa.decimal256(50, 2)),
        "narrow": pa.array([narrow, None], pa.decimal256(20, 2)),
        "inside": pa.array([{"a": narrow}, None], pa.struct([("a", pa.decimal256(50, 2))])),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert types(tmp_path, "wide", "narrow") == {"wide": pl.String(), "narrow": pl.Decimal(20, 2)}
    rows = read_all(tmp_path, SourceSettings(keep_columns=("wide", "narrow"))).rows
    assert rows.select("kept:wide", "kept:narrow").rows() == [(str(wide), narrow), (None, None)]
    with pytest.raises(ColumnError, match="'inside' has a type that no table can hold"):
        types(tmp_path, "inside")
    with pytest.raises(ColumnError, match="'inside' holds struct"):
        read_all(tmp_path, SourceSettings(keep_columns=("inside",)), kept_schema={"inside": pl.String()})
