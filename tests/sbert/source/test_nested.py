"""Fields inside columns: one that no object shows is refused by name; one that is only sometimes there is not."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.errors import BrokenObjectError, ColumnError
from sbert.source.listing import list_objects
from sbert.source.nested import may_have_field, type_with_fields
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import SourceSettings
from tests.support.reading import read_all

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"id": "1", "doc": {"summary": "red", "author": {"name": "Ann"}}, "tags": [{"name": "x"}], "price": 1.5},
    {"id": "2", "doc": {"summary": "green", "author": {"name": None}}, "tags": [], "price": 2.5},
]
NAMES = ["a.jsonl", "a.json", "a.csv", "a.parquet", "table"]


def write(folder: Path, name: str, rows: Rows) -> None:
    """Write rows in the format that a name says; nested values in CSV are JSON."""
    if name.endswith(".parquet"):
        pl.DataFrame(rows).write_parquet(folder / name)
    elif name.endswith(".csv"):
        written = [
            {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in row.items()}
            for row in rows
        ]
        pl.DataFrame(written).write_csv(folder / name)
    elif name.startswith("table"):
        pl.DataFrame(rows).write_delta(str(folder / name))
    else:
        lines = [json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{doc.summry}",
            "no field 'summry' of {doc.summry} in 'doc', the fields are: 'summary', 'author' (nearest: 'summary')",
        ),
        ("{doc.Summary}", "(there is 'summary', which differs in case: name it exactly so)"),
        (
            "{id} {doc.author.nam}",
            "no field 'nam' of {doc.author.nam} in 'doc.author', the fields are: 'name' (nearest: 'name')",
        ),
        ("{tags.name}", "no field 'name' of {tags.name}: 'tags' holds arrays, and a template cannot look into these"),
        ("{price.amount}", "no field 'amount' of {price.amount}: 'price' holds"),
        ("{dok.summary}", "no column 'dok', the columns are: 'id', 'doc', 'tags', 'price' (nearest: 'doc')"),
    ],
)
def test_a_field_that_no_object_shows_is_refused_by_name(tmp_path: Path, name: str, template: str, said: str) -> None:
    write(tmp_path, name, ROWS)
    objects = list_objects(str(tmp_path))
    for source in (
        SourceSettings(text_column=template),
        SourceSettings(text_column="{doc.summary}", id_column=template),
    ):
        with pytest.raises(ColumnError) as caught:
            infer_kept_schema(objects, source)
        assert said in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_there_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, ROWS)
    block = read_all(
        tmp_path, SourceSettings(text_column="{doc.summary} {doc.author.name}", id_column="{id}-{doc.summary}")
    )
    assert sorted(block.rows.select("id", "text").rows()) == [("1-red", "red Ann"), ("2-green", "green")]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_a_field_that_only_some_objects_have_is_null_in_the_others(tmp_path: Path, ending: str) -> None:
    write(tmp_path, f"a.{ending}", [{"id": "1", "doc": {"summary": "red"}}])
    write(tmp_path, f"b.{ending}", [{"id": "2", "doc": {"summary": "green", "body": "blue"}}])
    block = read_all(tmp_path, SourceSettings(text_column="{doc.summary} {doc.body}", keep_columns=("doc",)))
    assert block.rows.select("id", "text").rows() == [("1", "red"), ("2", "green blue")]
    assert block.rows.schema["kept:doc"] == pl.String
    assert json.loads(block.rows["kept:doc"][1]) == {"summary": "green", "body": "blue"}


@pytest.mark.parametrize(
    "values",
    [
        [{"other": 1}, {"summary": "red"}],
        [None, {"summary": "red"}],
        ["not known", {"summary": "red"}],
        [[], {"summary": "red"}],
        [7, {"summary": "red"}],
        ['{"other": 1}', '{"summary": "red"}'],
        [{}, {"summary": "red"}],
    ],
)
def test_a_field_that_only_some_rows_have_is_read(tmp_path: Path, values: list[object]) -> None:
    write(tmp_path, "a.jsonl", [{"doc": value} for value in values])
    block = read_all(tmp_path, SourceSettings(text_column="{doc.summary}"))
    assert block.rows.select("row", "text").rows() == [(2, "red")]
    assert block.rejects.select("row", "reason").rows() == [(1, "null_text")]


@pytest.mark.parametrize("value", [None, {"summary": None}, ""])
def test_a_field_is_not_refused_where_nothing_tells_that_it_is_not_there(tmp_path: Path, value: object) -> None:
    write(tmp_path, "a.jsonl", [{"doc": value}])
    assert read_all(tmp_path, SourceSettings(text_column="{doc.summary}")).rejects["reason"].to_list() == ["null_text"]


def test_text_in_parquet_may_hold_json(tmp_path: Path) -> None:
    pl.DataFrame({"doc": ['{"summary": "red"}', "plain"]}).write_parquet(tmp_path / "a.parquet")
    assert read_all(tmp_path, SourceSettings(text_column="{doc.summary}")).rows["text"].to_list() == ["red"]
    assert read_all(tmp_path, SourceSettings(text_column="{doc.summry}")).rejects.height == 2


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", [{"doc.summry": "red", "doc": {"summary": "green"}}])
    assert read_all(tmp_path, SourceSettings(text_column="{doc.summry}")).rows["text"].to_list() == ["red"]


def test_a_parquet_object_whose_schema_rules_out_every_part_is_unreadable(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", [{"doc": {"summary": "red"}}])
    write(tmp_path, "b.parquet", [{"doc": {"abstract": "green"}}])
    with pytest.raises(
        ColumnError, match=r"b\.parquet: no field 'summary' of \{doc.summary\} in 'doc', the fields are"
    ):
        read_all(tmp_path, SourceSettings(text_column="{doc.summary}"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize(
    "columns", [{"text_column": "doc.summary"}, {"text_column": "id", "keep_columns": ("doc.summary",)}]
)
def test_a_field_without_braces_is_explained(tmp_path: Path, name: str, columns: dict[str, Any]) -> None:
    write(tmp_path, name, ROWS)
    with pytest.raises(
        ColumnError, match=r"the value inside 'doc' is named \{doc.summary\}, with braces, .* keeps 'doc' as"
    ):
        read_all(tmp_path, SourceSettings(**columns))


def test_a_struct_as_text_of_parquet_names_a_field(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", ROWS)
    with pytest.raises(ColumnError, match=r"'doc' holds Struct.*, expected text: name .* such as \{doc.summary\}"):
        read_all(tmp_path, SourceSettings(text_column="doc"))
    with pytest.raises(ColumnError, match=r"'tags' holds List.*, expected text: name another column"):
        read_all(tmp_path, SourceSettings(text_column="tags"))


def test_a_single_json_record_of_objects_is_a_record_where_a_template_looks_into_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"doc": {"summary": "red"}, "more": {"n": 1}}')
    assert read_all(tmp_path, SourceSettings(text_column="{doc.summary}")).rows["text"].to_list() == ["red"]


def test_types_tell_fields_along_the_paths_only() -> None:
    values = [{"a": {"b": 1}, "c": {"d": 1}}, {"a": {"e": {"f": 1}}}]
    kind = type_with_fields(values, [("a", "e", "f")])
    inside = pl.Struct({"b": pl.Null(), "e": pl.Struct({"f": pl.Null()})})
    assert kind == pl.Struct({"a": inside, "c": pl.Null()})
    paths = [("a", "b"), ("a", "x"), ("a", "e", "f"), ("a", "e", "x"), ("x",), ("c", "d")]
    assert [may_have_field(kind, path) for path in paths] == [True, False, True, False, False, None]


def test_an_unreadable_object_does_not_decide(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("nonsense")
    write(tmp_path, "b.jsonl", ROWS)
    with pytest.raises(BrokenObjectError, match=r"a\.json"):
        read_all(tmp_path, SourceSettings(text_column="{doc.summary}"))
