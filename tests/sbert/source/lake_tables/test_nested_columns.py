"""Fields inside the columns of tables: named as the table has them, also where files have other names or lack them."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from sbert.source.lake_tables.nested_columns import in_table_form
from sbert.source.listing import list_objects
from sbert.source.settings import SourceSettings
from tests.support.reading import read_all
from tests.support.source_tables import append_actions, protocol

VALUES = [{"summary": "red", "by": [{"name": "Ann"}, {"name": None}]}, None, {"summary": None, "by": None}]


def field(name: str, kind: pa.DataType, number: int) -> pa.Field:
    """Return a field of a file, with its id."""
    return pa.field(name, kind, metadata={"PARQUET:field_id": str(number)})


def mapped_nested_table(path: Path, mode: str) -> Path:
    """Write a table with column mapping whose column doc has the fields summary and by, a list of structs with name."""
    path.mkdir()
    element = pa.field("element", pa.struct([field("col-6", pa.string(), 6)]))
    doc = pa.struct([field("col-5", pa.list_(element), 5), field("col-4", pa.string(), 4)])
    stored = [
        None if value is None else {"col-4": value["summary"], "col-5": _stored_names(value["by"])} for value in VALUES
    ]
    schema = pa.schema([field("col-1", pa.string(), 1), field("col-3", doc, 3)])
    pq.write_table(pa.table([["1", "2", "3"], stored], schema=schema), path / "f.parquet")

    def named(name: str, kind: Any, number: int) -> dict[str, Any]:
        stored_name = f"col-{number}" if mode == "name" else f"else-{number}"
        metadata = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": stored_name}
        return {"name": name, "type": kind, "nullable": True, "metadata": metadata}

    by = {"type": "struct", "fields": [named("name", "string", 6)]}
    fields = [
        named("summary", "string", 4),
        named("by", {"type": "array", "elementType": by, "containsNull": True}, 5),
        named("later", "string", 7),
    ]
    columns = [named("id", "string", 1), named("doc", {"type": "struct", "fields": fields}, 3)]
    metadata = {
        "id": "mapped",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": columns}),
        "partitionColumns": [],
        "configuration": {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "7"},
        "createdTime": 1,
    }
    add = {
        "path": "f.parquet",
        "partitionValues": {},
        "size": (path / "f.parquet").stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 3}),
    }
    append_actions(path, protocol(reader=2), {"metaData": metadata}, {"add": add})
    return path


def _stored_names(by: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    return None if by is None else [{"col-6": one["name"]} for one in by]


@pytest.mark.parametrize("mode", ["name", "id"])
def test_column_mapping_is_honoured_inside_columns(tmp_path: Path, mode: str) -> None:
    mapped_nested_table(tmp_path / "t", mode)
    source = SourceSettings(text_column="{id}: {doc.summary}{doc.later}", keep_columns=("doc",))
    rows = read_all(tmp_path, source).rows
    assert rows["text"].to_list() == ["1: red", "2", "3"]
    kept = [None if value is None else json.loads(value) for value in rows["kept:doc"]]
    assert kept == [None if value is None else {**value, "later": None} for value in VALUES]


def test_a_field_that_older_files_lack_is_null_there(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    write_deltalake(table, pl.DataFrame([{"id": "1", "doc": {"summary": "red"}}]).to_arrow())
    newer = pl.DataFrame([{"id": "2", "doc": {"summary": "green", "body": "blue"}}]).to_arrow()
    write_deltalake(table, newer, mode="append", schema_mode="merge")
    for template, texts in (("{doc.summary} {doc.body}", ["green blue", "red"]), ("{doc.body}", ["blue"])):
        block = read_all(tmp_path, SourceSettings(text_column=template, keep_columns=("doc",)))
        assert sorted(block.rows["text"]) == texts
        assert block.rows.height + block.rejects.height == 2
    assert set(read_all(tmp_path, SourceSettings(text_column="id", keep_columns=("doc",))).rows["kept:doc"]) == {
        '{"summary":"red","body":null}',
        '{"summary":"green","body":"blue"}',
    }


def test_a_renamed_field_of_iceberg_is_found_in_older_files(tmp_path: Path) -> None:
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.types import StringType

    (tmp_path / "raw").mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/raw")
    catalog.create_namespace("n")
    rows = pa.table({"id": ["1", "2"], "doc": [{"summary": "red", "tags": [{"k": "x"}]}, None]})
    table = catalog.create_table("n.t", schema=rows.schema)
    table.append(rows)
    before = [item.version for item in list_objects(str(tmp_path / "raw"))]
    assert read_all(tmp_path / "raw", SourceSettings(text_column="{doc.summary}")).rows["text"].to_list() == ["red"]
    with table.update_schema() as change:
        change.rename_column("doc.summary", "abstract")
        change.rename_column("doc.tags.k", "key")
    with table.update_schema() as change:
        change.add_column(("doc", "summary"), StringType())
    source = SourceSettings(text_column="{doc.abstract}{doc.summary}", keep_columns=("doc",))
    block = read_all(tmp_path / "raw", source)
    assert block.rows["text"].to_list() == ["red"]
    assert json.loads(block.rows["kept:doc"][0]) == {"abstract": "red", "tags": [{"key": "x"}], "summary": None}
    assert [item.version for item in list_objects(str(tmp_path / "raw"))] != before


def test_nulls_and_slices_of_nested_values_stay_in_place() -> None:
    have = pa.struct([("a", pa.list_(pa.struct([("x", pa.int32())]))), ("b", pa.string())])
    values = [
        {"a": [{"x": 1}, None], "b": "p"},
        None,
        {"a": None, "b": None},
        {"a": [], "b": "q"},
        {"a": [{"x": None}], "b": "r"},
    ]
    want = pa.field(
        "doc", pa.struct([("b", pa.string()), ("new", pa.int64()), ("a", pa.list_(pa.struct([("x", pa.int32())])))])
    )
    expected = [None if value is None else {"b": value["b"], "new": None, "a": value["a"]} for value in values]
    array = pa.array(values, have)
    for first, length in ((0, 5), (1, 3), (3, 2), (2, 0)):
        made = in_table_form(array.slice(first, length), want)
        made.validate(full=True)
        assert made.to_pylist() == expected[first : first + length]
