"""Tables of Iceberg as raw text, written by pyiceberg with a catalog in SQLite, read without the catalog."""

import datetime as dt
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import StaticTable, Table

from sbert.errors import EmptySourceError, SourceError
from sbert.source.lake_tables.iceberg import newest_metadata
from sbert.source.lake_tables.iceberg_io import StorageIO
from sbert.source.listing import list_objects
from sbert.source.settings import SourceSettings
from tests.support.reading import read_all
from tests.support.refreshing import refreshed
from tests.support.services import S3Server
from tests.support.tables import read, texts

DAY = dt.date(2026, 11, 1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    """Return a catalog whose tables lie in tmp_path/lake."""
    sql_catalog = SqlCatalog("test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/lake")
    sql_catalog.create_namespace("n")
    yield sql_catalog
    sql_catalog.close()


def make(catalog: SqlCatalog, name: str = "t") -> tuple[Table, Path]:
    """Write three rows, partitioned by lang and day; return the table and its folder."""
    rows = pa.table({"text": ["a", "b", "c"], "lang": ["en", "de", "x y/z"], "n": [1, 2, 3], "day": [DAY, DAY, None]})
    table = catalog.create_table(f"n.{name}", schema=rows.schema)
    with table.update_spec() as spec:
        spec.add_identity("lang")
        spec.add_identity("day")
    table.append(rows)
    return table, Path(table.location().removeprefix("file://"))


def kept(raw: Path, *names: str) -> list[tuple[object, ...]]:
    rows = read_all(raw, SourceSettings(keep_columns=names)).rows
    return rows.select("text", pl.col("^kept:.*$")).sort("text").rows()


def test_the_rows_of_the_current_snapshot_are_read(catalog: SqlCatalog, tmp_path: Path) -> None:
    table, folder = make(catalog)
    table.delete("n == 1")
    table.append(pa.table({"text": ["d"], "lang": ["en"], "n": [4], "day": pa.array([None], pa.date32())}))
    expected = [("b", "de", 2, DAY), ("c", "x y/z", 3, None), ("d", "en", 4, None)]
    assert kept(folder, "lang", "n", "day") == expected
    assert kept(tmp_path / "lake", "lang", "n", "day") == expected
    (tmp_path / "lake/loose.jsonl").write_text('{"text": "loose"}')
    (folder / "data/stray.jsonl").write_text('{"text": "stray"}')
    assert [row[0] for row in kept(tmp_path / "lake")] == ["b", "c", "d", "loose"]
    assert [row[0] for row in kept(folder / "data/lang=en")] == ["d"]
    assert [row[0] for row in kept(Path(f"{folder}/data/*/*/*.parquet"))] == ["b", "c", "d"]


def test_an_earlier_version_is_read_by_its_metadata_file(catalog: SqlCatalog) -> None:
    table, folder = make(catalog)
    before = table.metadata_location.removeprefix("file://")
    table.delete("n == 1")
    assert [row[0] for row in kept(Path(before))] == ["a", "b", "c"]
    assert [row[0] for row in kept(folder)] == ["b", "c"]
    assert all(item.num_rows == 1 for item in list_objects(str(folder)))


def test_columns_are_found_by_their_id(catalog: SqlCatalog) -> None:
    table, folder = make(catalog)
    versions = {item.uri: item.version for item in list_objects(str(folder))}
    with table.update_schema() as schema:
        schema.add_column("extra", pa_type("string"))
    assert {item.uri: item.version for item in list_objects(str(folder))} == versions
    with table.update_schema() as schema:
        schema.rename_column("text", "body")
        schema.rename_column("n", "text")
    assert all(item.version != versions[item.uri] for item in list_objects(str(folder)))
    rows = read_all(folder, SourceSettings(text_column="body", keep_columns=("text", "extra"))).rows
    assert rows.select("text", "kept:text", "kept:extra").sort("text").rows() == [
        ("a", 1, None),
        ("b", 2, None),
        ("c", 3, None),
    ]


def pa_type(name: str) -> object:
    """Return an Iceberg type."""
    from pyiceberg.types import StringType

    assert name == "string"
    return StringType()


def test_a_change_of_the_table_costs_what_it_changes(catalog: SqlCatalog, tmp_path: Path, model: str) -> None:
    source = catalog.create_table("n.t", schema=pa.schema([("id", pa.string()), ("text", pa.string())]))
    source.append(pa.table({"id": [str(number) for number in range(20)], "text": texts(0, 20)}))
    raw, table = source.location().removeprefix("file://"), tmp_path / "table"
    assert refreshed(raw, table, model).report.num_rows_encoded == 20
    assert refreshed(raw, table).plan.is_empty
    source.overwrite(pa.table({"id": ["4"], "text": ["another text"]}), "id == '4'")
    changed = refreshed(raw, table).report
    assert changed.num_texts_encoded == 1
    assert changed.num_rows == 20
    assert changed.num_rows_lost == 0
    assert read(table).height == 20


def test_a_missing_data_file_is_named(catalog: SqlCatalog, tmp_path: Path, model: str) -> None:
    _, folder = make(catalog)
    missing = next(folder.glob("data/lang=en/*/*.parquet"))
    missing.unlink()
    report = refreshed(folder, tmp_path / "table", model).report
    assert list(report.broken_objects) == [str(missing)]
    assert report.num_rows == 2


def test_delete_files_and_other_formats_are_refused_by_name(
    catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, folder = make(catalog)
    plan = StaticTable.scan(table).plan_files  # type: ignore[arg-type]
    tasks = list(plan())

    def with_tasks(*made: object) -> None:
        scan = SimpleNamespace(plan_files=lambda: made)
        monkeypatch.setattr(StaticTable, "scan", lambda self: scan)

    with_tasks(SimpleNamespace(file=tasks[0].file, delete_files={"deletes.parquet"}), *tasks[1:])
    with pytest.raises(SourceError, match=r"metadata.json: 1 of 3 data files of this Iceberg table have delete files"):
        list_objects(str(folder))
    orc = SimpleNamespace(file_format=SimpleNamespace(value="ORC"))
    with_tasks(SimpleNamespace(file=orc, delete_files=set()))
    with pytest.raises(SourceError, match=r"has files of ORC, only Parquet is read"):
        list_objects(str(folder))


def test_the_newest_metadata_is_found_or_asked_for(catalog: SqlCatalog) -> None:
    table, folder = make(catalog)
    newest = Path(table.metadata_location.removeprefix("file://"))
    assert newest_metadata(str(folder)) == str(newest)
    number = newest.name.split("-")[0]
    shutil.copy(newest, newest.with_name(f"{number}-other.metadata.json"))
    with pytest.raises(
        SourceError, match=rf"is not clear \({newest.name}, {number}-other.metadata.json\): name the file"
    ):
        list_objects(str(folder))
    (newest.parent / "version-hint.text").write_text(newest.name.removesuffix(".metadata.json"))
    assert newest_metadata(str(folder)) == str(newest)


def test_broken_metadata_ends_the_run_by_name(catalog: SqlCatalog) -> None:
    table, folder = make(catalog)
    newest = Path(table.metadata_location.removeprefix("file://"))
    whole = newest.read_text()
    newest.write_text(whole[:100])
    with pytest.raises(SourceError, match=rf"^{newest}: this metadata of an Iceberg table cannot be read"):
        list_objects(str(folder))
    newest.write_text(json.dumps({**json.loads(whole), "format-version": 9}))
    with pytest.raises(SourceError, match=r"format.version"):
        list_objects(str(folder))
    newest.write_text(whole)
    for manifest in newest.parent.glob("*-m0.avro"):
        manifest.unlink()
    with pytest.raises(Exception, match=r"m0\.avro"):
        list_objects(str(folder))


def test_a_table_without_a_snapshot_has_no_objects(catalog: SqlCatalog) -> None:
    table = catalog.create_table("n.t", schema=pa.schema([("text", pa.string())]))
    with pytest.raises(EmptySourceError, match=r"of the Iceberg table .* has no such file"):
        list_objects(table.location())


def test_without_pyiceberg_the_error_says_how(catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = make(catalog)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyiceberg" else find(name))
    with pytest.raises(
        SourceError, match=r"is a table of Iceberg, and pyiceberg is not installed: run pip install 'sbert"
    ):
        list_objects(str(folder))


@pytest.mark.s3
def test_a_table_on_s3_is_read(s3: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    properties = {
        "uri": f"sqlite:///{tmp_path}/s3.db",
        "warehouse": f"{s3_bucket}/lake",
        "s3.endpoint": s3.endpoint,
        "s3.access-key-id": s3.access_key,
        "s3.secret-access-key": s3.secret_key,
        "s3.region": "us-east-1",
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    catalog = SqlCatalog("s3", **properties)
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=pa.schema([("text", pa.string())]))
    table.append(pa.table({"text": ["a", "b"]}))
    catalog.close()
    items = list_objects(f"{s3_bucket}/lake")
    assert [item.num_rows for item in items] == [2]
    assert items[0].uri.startswith(f"{s3_bucket}/lake/")
    assert read_all(f"{s3_bucket}/lake").rows["text"].to_list() == ["a", "b"]


def test_a_source_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"rows")
    storage = StorageIO()
    with pytest.raises(io.UnsupportedOperation, match=r"data.parquet: a source is only read, nothing is written to it"):
        storage.new_output(str(tmp_path / "data.parquet"))
    with pytest.raises(
        io.UnsupportedOperation, match=r"data.parquet: a source is only read, nothing is removed from it"
    ):
        storage.delete(str(tmp_path / "data.parquet"))
    assert (tmp_path / "data.parquet").read_bytes() == b"rows"
