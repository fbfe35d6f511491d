"""Partitioned folders: their keys are columns, in every format."""

import logging
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError, EmptySourceError
from sbert.source.folder_keys import folder_keys
from sbert.source.listing import list_objects
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import SourceSettings
from tests.support.reading import compress, read_all
from tests.support.refreshing import refreshed
from tests.support.tables import read, rows, write

DEFAULT = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("b/raw/lang=en/day=2026-11-01/a.csv", "b/raw", {"lang": "en", "day": "2026-11-01"}),
        ("b/raw/lang=en/a=b.csv", "b/raw", {"lang": "en"}),
        ("b/x=1/raw/lang=en/a.csv", "b/x=1/raw", {"lang": "en"}),
        ("b/raw/lang=en/day=1/a.csv", "b/raw/lang=en", {"lang": "en", "day": "1"}),
        (f"b/lang={DEFAULT}/city=/a.csv", "b", {"lang": None, "city": None}),
        ("b/a%20b=x%2Fy%25%C3%A4/plain/a.csv", "b", {"a b": "x/y%ä"}),
        ("b/=x/k==/a.csv", "b", {"k": "="}),
        ("b/day=1/hour/day=2/a.csv", "b", {"day": "2"}),
        ("lang=en/a.csv", "", {"lang": "en"}),
    ],
)
def test_keys_are_told_from_the_folders_of_a_path(path: str, root: str, expected: dict[str, str | None]) -> None:
    assert folder_keys(path, root) == expected


def make(folder: Path, ending: str) -> None:
    """Write one row with text, id and n, named after the folder."""
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"text": [folder.name], "id": ["1"], "n": [7]})
    path = folder / f"a.{ending}"
    {
        "csv": frame.write_csv,
        "parquet": frame.write_parquet,
        "jsonl": frame.write_ndjson,
        "txt": lambda path: path.write_text(folder.name),
    }[ending](path)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "txt"])
def test_folder_keys_can_be_kept_in_every_format(tmp_path: Path, ending: str) -> None:
    for lang, year in (("en", "2026"), ("x%2Fy", "2025"), (DEFAULT, "2024")):
        make(tmp_path / f"lang={lang}/year={year}", ending)
    make(tmp_path / "loose", ending)
    kept = read_all(tmp_path, SourceSettings(keep_columns=("lang", "year"))).rows
    keys_by_text = {text: (lang, year) for text, lang, year in kept.select("text", "kept:lang", "kept:year").rows()}
    assert keys_by_text == {
        "year=2026": ("en", 2026),
        "year=2025": ("x/y", 2025),
        "year=2024": (None, 2024),
        "loose": (None, None),
    }


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_folder_key_can_be_the_text_or_the_id(tmp_path: Path, ending: str) -> None:
    make(tmp_path / "lang=en", ending)
    make(tmp_path / f"lang={DEFAULT}", ending)
    block = read_all(tmp_path, SourceSettings(text_column="lang", id_column="n"))
    assert block.rows.select("id", "text").rows() == [("7", "en")]
    assert block.rejects["reason"].to_list() == ["null_text"]
    assert read_all(tmp_path / "lang=en", SourceSettings(id_column="lang")).rows["id"].to_list() == ["en"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_key_that_is_a_column_too_is_an_error_unless_it_is_not_used(tmp_path: Path, ending: str) -> None:
    make(tmp_path / "n=8", ending)
    make(tmp_path / "n=9", ending)
    kept = SourceSettings(keep_columns=("n",))
    message = r"n=8/a\.\w+: 'n' is a key of its folder \(value '8'\) and a column of the object"
    with pytest.raises(ColumnError, match=message):
        infer_kept_schema(list_objects(str(tmp_path)), kept)
    with pytest.raises(ColumnError, match=message):
        read_all(tmp_path, kept, kept_schema={"n": pl.Int64()})
    assert read_all(tmp_path).rows.height == 2
    of_objects = SourceSettings(keep_columns=("n",), folder_keys=False)
    assert read_all(tmp_path, of_objects).rows["kept:n"].to_list() == [7, 7]


def test_a_folder_key_is_the_id_only_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "id=7").mkdir()
    (tmp_path / "id=7/a.csv").write_text("text\na\nb\n")
    assert read_all(tmp_path).rows["id"].to_list() == ["a.csv:1", "a.csv:2"]
    assert read_all(tmp_path, SourceSettings(id_column="id")).rows["id"].to_list() == ["7", "7"]


def test_a_later_value_of_a_key_does_not_cost_a_row(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    write(raw / "year=2026/a.jsonl", rows(0, 3))
    refreshed(raw, table, model, {"source": {"keep_columns": ["year"]}})
    write(raw / "year=unknown/a.jsonl", rows(3, 2))
    report = refreshed(raw, table).report
    assert report.num_rows == 5
    assert report.misfits_by_column == {"year": 2}
    assert sorted(read(table)["year"].to_list(), key=str) == [2026, 2026, 2026, None, None]


def test_tables_made_before_keys_were_columns_stay_a_no_op(tmp_path: Path) -> None:
    assert SourceSettings().identity() == SourceSettings(folder_keys=True, column_types={}).identity()
    assert set(SourceSettings().identity()) == {"text_column", "id_column", "keep_columns", "text_documents"}


def test_parts_of_an_export_without_an_ending_are_told_by_looking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pl.DataFrame({"text": ["a"]})
    for folder in ("array", "parquet", "json", "gz", "csv"):
        (tmp_path / folder).mkdir()
    (tmp_path / "parquet/part-00000").write_bytes(b"")
    frame.write_parquet(tmp_path / "parquet/part-00001")
    frame.write_ndjson(tmp_path / "json/000000_0")
    frame.write_ndjson(tmp_path / "gz/part_0", compression="gzip")
    frame.write_csv(tmp_path / "csv/part-00000")
    (tmp_path / "array/part-r-00000").write_text('[{"text": "a"}]')
    for name in ("_SUCCESS", ".part-00000.crc", "_temporary/0/part-00000", "a.part", "README"):
        (tmp_path / "json" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "json" / name).write_text("{")
    with caplog.at_level(logging.INFO, "sbert.source.listing"):
        format_by_path = {
            str(Path(item.uri).relative_to(tmp_path)): item.format for item in list_objects(str(tmp_path))
        }
    assert format_by_path == {
        "array/part-r-00000": "json",
        "gz/part_0": "jsonl",
        "json/000000_0": "jsonl",
        "parquet/part-00001": "parquet",
    }
    assert "7 objects passed over by their ending or name (3 (no ending), 3 hidden, 1 .part), such as " in caplog.text
    assert "csv/part-00000: only Parquet and JSON are told by looking; source.format names another" in caplog.text
    assert read_all(tmp_path).rows["text"].to_list() == ["a"] * 4
    assert read_all(tmp_path / "json/000000_0").rows["text"].to_list() == ["a"]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("name", ["part-00000", "000000_0", "0000_part_00"])
def test_compressed_parts_of_an_export_are_told_by_looking(tmp_path: Path, name: str, ending: str) -> None:
    (tmp_path / f"{name}{ending}").write_bytes(compress(b'{"text": "a"}\n', ending))
    (tmp_path / f"z{name}{ending}").write_bytes(b"nonsense")
    assert read_all(tmp_path).rows["text"].to_list() == ["a"]
    assert read_all(tmp_path / f"{name}{ending}").rows["text"].to_list() == ["a"]


def test_parts_that_are_not_told_by_looking_are_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "part-00000").write_text("text\na\n")
    (tmp_path / "part-00001.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(EmptySourceError, match=r"source\.format names the format of objects whose names do not say it"):
        list_objects(str(tmp_path))


def test_objects_of_an_unknown_ending_are_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text("text\na\n")
    with pytest.raises(
        EmptySourceError, match=r"found: 1 \.dat.*source\.format names the format of objects whose names"
    ):
        list_objects(str(tmp_path))
    assert [item.format for item in list_objects(str(tmp_path), "csv")] == ["csv"]
