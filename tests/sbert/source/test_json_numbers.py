"""Numbers of JSON keep their characters, whichever way their lines are read, and make a column of numbers only if they come back."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.source.formats.base import ColumnRequest
from sbert.source.formats.json_lines import parse_chunk
from sbert.source.formats.json_numbers import field_in_json, load_json
from sbert.source.lines import LineChunk
from sbert.source.listing import list_objects
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.types import NumberLiteral
from tests.support.reading import read_all
from tests.support.refreshing import refreshed

LITERALS = [
    "1.10", "1.0", "1", "-0.5", "-0", "-0.0", "1e5", "1E5", "1e-07", "1e-7", "1e+16", "1e22", "1e999", "0.30000000000000004",
    "3.14159265358979312", "9007199254740993", "12345678901234567890", "1" + "0" * 60, "12345678.250", "-1.50e+3",
]  # fmt: skip
COLUMNS = ColumnRequest(texts=("id", "text"), kept=("v", "doc"))


def parse(lines: list[str], *, by_line: bool = False) -> pl.DataFrame:
    broken = ["{broken"] if by_line else []
    data = "".join(f"{line}\n" for line in [*lines, *broken]).encode()
    block = parse_chunk(LineChunk(1, data), COLUMNS, 2**20)
    assert len(block.bad) == len(broken)
    return block.values


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("literal", LITERALS)
def test_a_number_keeps_its_characters_as_text_id_value_and_inside_of_values(literal: str, by_line: bool) -> None:
    nested = f'{{"price": {literal}, "list": [{literal}, "{literal}"]}}'
    lines = [
        f'{{"id": {literal}, "text":{literal}, "v": {literal}, "doc": {nested}, "other": [{literal}]}}',
        f'{{"id": "{literal}", "text": "costs {literal}, or: {literal}]", "v" : "{literal}" , "doc": "{literal}"}}',
    ]
    assert parse(lines, by_line=by_line).rows() == [
        (literal, literal, literal, nested),
        (literal, f"costs {literal}, or: {literal}]", literal, literal),
    ]


@pytest.mark.parametrize("key", ["v", 'a "b"', "gr\u00f6\u00dfe", "a/b", "a.b (c)*"])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_key_is_found_however_it_is_written(key: str, is_ascii: bool) -> None:
    written = json.dumps(key, ensure_ascii=is_ascii)
    request = ColumnRequest(texts=("text",), kept=(key,))
    for name in (written, written.replace("/", r"\/")):
        chunk = LineChunk(1, f'{{"text": "x", {name}: 1.10}}\n'.encode())
        assert parse_chunk(chunk, request, 2**20).values[key].to_list() == ["1.10"]


@pytest.mark.parametrize(
    "number", ["01.10", "1.", ".5", "1.5.2", "+1.5", "1e", "1.5e+", "--1.5", "0x1.8", "1_0.5", "1.10a"]
)
def test_a_line_with_a_number_that_json_does_not_have_is_rejected_alone(number: str) -> None:
    data = f'{{"text": "good", "v": 1.10}}\n{{"text": "bad", "v": {number}}}\n'.encode()
    for column in ("v", "other"):
        block = parse_chunk(LineChunk(1, data.replace(b'"v"', f'"{column}"'.encode())), COLUMNS, 2**20)
        assert block.values["text"].to_list() == ["good"]
        assert [record.row for record in block.bad] == [2]


def test_a_quote_too_many_and_a_character_for_uses_inside_programs_change_no_other_row() -> None:
    marks = "".join(chr(code) for code in range(0xFDD0, 0xFDEF))
    lines = [
        '{"text": "a", "v": 1.10}',
        f'{{"text": "{marks} 1.10", "v": ["{marks[0]}1.10"], "doc": ["\\uFDEF1.10", 1.10]}}',
        '{"text": "b", "v": 1.20}',
    ]
    rows = [("1.10", None), (f'["{marks[0]}1.10"]', '["\ufdef1.10", 1.10]'), ("1.20", None)]
    assert parse(lines).select("v", "doc").rows() == rows
    data = "\n".join([lines[0], '{"text": "x, "v": 1.30}', lines[2], '{"text": "y, "v": 1.40}', lines[2]]).encode()
    block = parse_chunk(LineChunk(1, data), COLUMNS, 2**20)
    assert block.values["v"].to_list() == ["1.10", "1.20", "1.20"]
    assert [record.row for record in block.bad] == [2, 4]


JSON_NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.text(max_size=6) | JSON_NUMBERS.map(NumberLiteral),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def as_json(value: Any, *, is_ascii: bool) -> str:
    """Write a value whose numbers are literals; the separators are those of kept values."""
    if isinstance(value, NumberLiteral):
        return value.characters
    if isinstance(value, list):
        return f"[{', '.join(as_json(inner, is_ascii=is_ascii) for inner in value)}]"
    if isinstance(value, dict):
        members = (
            f"{json.dumps(key, ensure_ascii=is_ascii)}: {as_json(inner, is_ascii=is_ascii)}"
            for key, inner in value.items()
        )
        return f"{{{', '.join(members)}}}"
    return json.dumps(value, ensure_ascii=is_ascii)


def test_control_characters_inside_of_values_are_escaped() -> None:
    characters = [chr(code) for code in [*range(0x20), ord('"'), ord("\\"), 0x7F]]
    values = [value for text in characters for value in ([f"a{text}b", text], {f"key{text}": "a"})]
    for value in values:  # each alone: one that needs care would help the others
        (written,) = parse([json.dumps({"text": "x", "doc": value})])["doc"]
        assert json.loads(written) == value


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5), is_ascii=st.booleans())
def test_a_value_is_what_is_written_and_does_not_depend_on_its_neighbours(values: list[Any], is_ascii: bool) -> None:
    lines = [
        f'{{"text": "x", "v": {as_json(v, is_ascii=is_ascii)}, "doc": {as_json(doc, is_ascii=is_ascii)}}}'
        for v, doc in values
    ]
    expected = [tuple(_kept(value) for value in pair) for pair in values]
    assert parse(lines).select("v", "doc").rows() == expected
    assert parse(lines, by_line=True).select("v", "doc").rows() == expected


def _kept(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else as_json(value, is_ascii=False)


@pytest.mark.parametrize(
    ("literals", "expected"),
    [
        (["1.10", "2.5"], pl.String()),
        (["1e5", "2"], pl.String()),
        (["1E-7"], pl.String()),
        (["-0"], pl.String()),
        (["3.14159265358979312"], pl.String()),
        (["12345678901234567890", "1"], pl.String()),
        (["9007199254740993", "0.5"], pl.String()),
        (["9007199254740993", "5"], pl.Int64()),
        (["1.0", "12", "-0.5"], pl.Float64()),
        (["1e-07", "1e+16", "1.5e-300", "0.30000000000000004"], pl.Float64()),
        (["1e-7"], pl.Float64()),
        (["12", "null"], pl.Int64()),
        (["12", "NaN"], pl.Int64()),
        (["true"], pl.Boolean()),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_column_is_of_numbers_only_when_every_value_seen_writes_back_to_the_same_characters(
    tmp_path: Path, literals: list[str], expected: pl.DataType, name: str
) -> None:
    if name == "a.csv":
        content = "text,v\n" + "".join(f"x,{literal.replace('null', '')}\n" for literal in literals)
    else:
        records = [f'{{"text": "x", "v": {literal}}}' for literal in literals]
        content = "\n".join(records) if name == "a.jsonl" else f"[{','.join(records)}]"
    (tmp_path / name).write_text(content)
    source = SourceSettings(keep_columns=("v",))
    assert infer_kept_schema(list_objects(str(tmp_path)), source) == {"v": expected}
    block = read_all(tmp_path, source)
    assert block.misfits.is_empty()
    if expected == pl.String():
        assert block.rows["kept:v"].to_list() == literals
    if expected == pl.Float64():
        assert block.rows["kept:v"].to_list() == [float(literal) for literal in literals]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        (pl.Float64(), "1.10", 1.1),
        (pl.Float64(), "1e5", 100_000.0),
        (pl.Float64(), "9007199254740993", None),
        (pl.Float64(), "3.14159265358979312", None),
        (pl.Float64(), "0.30000000000000004", 0.30000000000000004),
        (pl.Float64(), "1e999", None),
        (pl.Float64(), "1e-999", None),
        (pl.Float32(), "0.1", pytest.approx(0.1)),
        (pl.Float32(), "0.123456789", None),
        (pl.Int64(), "7.0", 7),
        (pl.Int64(), "7e0", 7),
        (pl.Int64(), "9223372036854775807.0", 2**63 - 1),
        (pl.Int64(), "9223372036854775808.0", None),
        (pl.Int64(), "7.00000000000000000001", None),
        (pl.Int32(), "3000000000.0", None),
        (pl.Decimal(10, 2), "1.5", pytest.approx(1.5)),
        (pl.Decimal(10, 2), "1.505", None),
    ],
)
def test_a_later_number_fits_when_it_is_the_same_number(
    tmp_path: Path, ending: str, kind: pl.DataType, written: str, kept: object
) -> None:
    content = f"text,v\nx,{written}\n" if ending == "csv" else f'{{"text": "x", "v": {written}}}\n'
    (tmp_path / f"a.{ending}").write_text(content)
    block = read_all(tmp_path, SourceSettings(keep_columns=("v",)), kept_schema={"v": kind})
    (value,) = block.rows["kept:v"].cast(pl.Float64 if isinstance(kind, pl.Decimal) else kind)
    assert value == kept
    assert block.misfits["original"].to_list() == ([written] if kept is None else [])


def test_a_template_has_the_characters_of_numbers_in_columns_and_inside_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"sku": 1.0, "price": 1.10, "doc": {"id": 12345678901234567890, "at": {"p": 2.50}}}\n'
    )
    (tmp_path / "b.csv").write_text('sku,price,doc\n1.0,1.10,"{""id"": 12345678901234567890, ""at"": {""p"": 2.50}}"\n')
    source = SourceSettings(text_column="{price} {doc.at.p} {doc.at}", id_column="{sku}/{doc.id}")
    rows = read_all(tmp_path, source).rows
    assert rows.select("id", "text").rows() == [("1.0/12345678901234567890", '1.10 2.50 {"p":2.50}')] * 2


def test_a_field_is_found_by_any_name() -> None:
    texts = pl.Series(['{"it\'s": 1.10, "a": null}', '{"a": {"b": 1e5}}', '{"a": 1.10', "x", None, "[1.10]"])
    assert field_in_json(texts, ["it's"]).to_list() == ["1.10", None, None, None, None, None]
    assert field_in_json(texts, ["a", "b"]).to_list() == [None, "1e5", None, None, None, None]


def test_the_table_has_the_characters_and_keeps_the_types_that_it_has(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    raw.mkdir()
    settings = {"source": {"keep_columns": ("price", "score", "doc")}}
    (raw / "a.jsonl").write_text('{"id": 1.0, "text": "one", "price": 1.10, "score": 0.5, "doc": {"price": 1.10}}\n')
    refreshed(raw, table, model, settings)
    (raw / "b.jsonl").write_text('{"id": 2, "text": "two", "price": 2, "score": 1.10, "doc": [1e5]}\n')
    report = refreshed(raw, table, model, settings).report
    assert report.misfits_by_column == {}
    rows = pl.read_delta(str(table)).sort("id").select("id", "price", "score", "doc").rows()
    assert rows == [("1.0", "1.10", 0.5, '{"price": 1.10}'), ("2", "2", 1.1, "[1e5]")]


def test_blocks_give_the_same_as_the_whole(tmp_path: Path) -> None:
    lines = [
        f'{{"id": {n}, "text": "t{n}, 1.10]", "v": {n % 7}.{n % 10}0, "doc": {{"p": {n}.50}}}}' for n in range(2_000)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.json").write_text(f"[{', '.join(lines)}]")
    source = SourceSettings(keep_columns=("v", "doc"))
    rows = read_all(tmp_path, source, ReadSettings(block_bytes=1_024)).rows
    expected = [(f"{n % 7}.{n % 10}0", f'{{"p": {n}.50}}') for n in range(2_000)]
    assert rows.select("kept:v", "kept:doc").rows() == expected * 2


def test_a_number_is_its_characters() -> None:
    assert load_json("1.10").characters == "1.10"
