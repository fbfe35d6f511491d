"""Tables of Delta Lake as raw text: the rows of the newest version, whatever lies in the folder."""

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from s3fs import S3FileSystem

from sbert.errors import ColumnError, EmptySourceError, SourceError, StorageError
from sbert.labels.label_records import read_label_object
from sbert.labels.settings import LabelSettings
from sbert.labels.watch import count_rows
from sbert.source.lake_tables import recognise
from sbert.source.lake_tables.delta import delta_files
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings, SplitSettings
from sbert.source.splits import make_splits, with_first_rows
from sbert.storage.files import filesystem
from tests.support.reading import read_all
from tests.support.services import S3Server
from tests.support.source_tables import (
    actions_of,
    append_actions,
    mapped_table,
    mark_deleted,
    protocol,
    write_table,
)


def texts(raw: object, **source: object) -> list[str]:
    return sorted(read_all(Path(str(raw)), SourceSettings.model_validate(source)).rows["text"])


def kept(raw: Path, *names: str) -> list[dict[str, object]]:
    rows = read_all(raw, SourceSettings(keep_columns=names)).rows
    return rows.select("text", pl.col("^kept:.*$").name.map(lambda name: name[5:])).sort("text").to_dicts()


def partitioned(path: Path) -> Path:
    """Write a table of which an overwrite removed files, partitioned by lang."""
    write_table(path, {"text": ["old"], "lang": ["en"]}, partition_by=["lang"])
    languages = ["en", "de", "x y/z%ä", None]
    write_table(path, {"text": list("abcd"), "lang": languages}, mode="overwrite", partition_by=["lang"])
    return path


def test_rows_of_removed_files_are_never_read(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table", {"text": ["old", "older"]})
    write_table(table, {"text": ["new"]}, mode="overwrite")
    assert len(list(table.glob("*.parquet"))) == 2
    assert texts(table) == texts(tmp_path) == texts(f"{table}/*.parquet") == ["new"]


def test_a_folder_may_hold_tables_beside_loose_files(tmp_path: Path) -> None:
    partitioned(tmp_path / "below/parts")
    (tmp_path / "below/parts/stray.jsonl").write_text('{"text": "stray"}')
    write_table(tmp_path / "table", {"text": ["t"]})
    (tmp_path / "loose.jsonl").write_text('{"text": "loose"}')
    assert texts(tmp_path) == ["a", "b", "c", "d", "loose", "t"]


def test_partition_columns_are_columns(tmp_path: Path) -> None:
    languages = {row["text"]: row["lang"] for row in kept(partitioned(tmp_path / "t"), "lang")}
    assert languages == {"a": "en", "b": "de", "c": "x y/z%ä", "d": None}


def test_a_partition_column_may_be_text_or_id(tmp_path: Path) -> None:
    table = partitioned(tmp_path / "t")
    assert texts(table, text_column="lang") == ["de", "en", "x y/z%ä"]
    rows = read_all(table, SourceSettings(id_column="lang"))
    assert sorted(rows.rows["id"]) == ["de", "en", "x y/z%ä"]
    assert rows.rejects["reason"].to_list() == ["null_id"]


def test_partition_columns_have_the_types_of_the_table(tmp_path: Path) -> None:
    values = {
        "day": dt.date(2026, 11, 1),
        "hour": dt.datetime(2026, 11, 1, 7, 30, tzinfo=dt.UTC),
        "n": 7,
        "good": True,
        "price": Decimal("1.50"),
        "part": 2.5,
    }
    table = write_table(
        tmp_path / "t", {"text": ["a"], **{name: [value] for name, value in values.items()}}, partition_by=list(values)
    )
    block = read_all(table, SourceSettings(keep_columns=tuple(values)))
    assert block.misfits.is_empty()
    assert kept(table, *values) == [{"text": "a", **values}]


@pytest.mark.parametrize("below", ["lang=en", "lang=en/*.parquet", "lang=e*/*"])
def test_a_part_of_a_table_is_its_active_files_there(tmp_path: Path, below: str) -> None:
    table = partitioned(tmp_path / "t")
    assert texts(f"{table}/{below}") == ["a"]


def test_a_removed_file_is_refused_by_name(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": ["old"]})
    removed = next(table.glob("*.parquet"))
    write_table(table, {"text": ["new"]}, mode="overwrite")
    with pytest.raises(EmptySourceError, match=rf"{table} has no such file"):
        list_objects(str(removed))
    assert texts(next(path for path in table.glob("*.parquet") if path != removed)) == ["new"]


def test_rows_with_a_deletion_vector_are_not_read(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": list("abcdef"), "n": [1, 2, 3, 4, 5, 6]})
    before = list_objects(str(table))[0]
    mark_deleted(table, [1, 3])
    after = list_objects(str(table))[0]
    assert after.uri == before.uri
    assert after.num_rows == 4
    assert after.version != before.version
    rows = read_all(table, SourceSettings(keep_columns=("n",))).rows
    assert rows.select("row", "text", "kept:n").rows() == [(1, "a", 1), (3, "c", 3), (5, "e", 5), (6, "f", 6)]
    assert count_rows(after) == 4
    assert read_label_object(after, LabelSettings())["text"].to_list() == list("acef")


@pytest.mark.parametrize("mode", ["name", "id"])
def test_column_mapping_is_honoured(tmp_path: Path, mode: str) -> None:
    table = mapped_table(tmp_path / "t", mode)
    assert kept(table, "n", "lang") == [{"text": "a", "n": 1, "lang": "en"}, {"text": "b", "n": 2, "lang": "en"}]


def test_a_renamed_column_is_another_version_of_the_file(tmp_path: Path) -> None:
    table = mapped_table(tmp_path / "t", "name")
    before = list_objects(str(table))[0].version
    metadata = actions_of(table, "metaData")[0]
    schema = metadata["schemaString"].replace('"name": "text"', '"name": "body"')
    append_actions(table, {"metaData": {**metadata, "schemaString": schema}})
    assert list_objects(str(table))[0].version != before
    assert texts(table, text_column="body") == ["a", "b"]


def test_a_column_that_an_older_file_lacks_is_null_there(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": ["a"]})
    write_table(table, {"text": ["b"], "n": [7]}, mode="append", schema_mode="merge")
    assert kept(table, "n") == [{"text": "a", "n": None}, {"text": "b", "n": 7}]
    rejects = read_all(table, SourceSettings(text_column="n")).rejects
    assert rejects["reason"].to_list() == ["null_text"]
    with pytest.raises(ColumnError, match=r"no column 'other', the columns are: 'text', 'n'"):
        infer_kept_schema(list_objects(str(table)), SourceSettings(keep_columns=("other",)))


def test_planning_opens_no_data_file(tmp_path: Path) -> None:
    table = partitioned(tmp_path / "t")
    for file in table.glob("*/*.parquet"):
        file.unlink()
    objects = list_objects(str(table))
    assert infer_kept_schema(objects, SourceSettings(keep_columns=("lang",))) == {"lang": pl.String()}
    assert (
        sum(len(split.spans) for split in make_splits(objects, SplitSettings(split_bytes=10, pack_below_bytes=0))) > 4
    )


def test_a_large_file_is_cut_where_row_groups_begin(tmp_path: Path) -> None:
    rows = {"text": [f"{number} {number**5}" for number in range(2000)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    table = write_table(tmp_path / "t", rows)
    file = next(table.glob("*.parquet"))
    pl.DataFrame(rows).write_parquet(file, row_group_size=300)
    log = table / "_delta_log" / f"{0:020d}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["size"] = file.stat().st_size
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    mark_deleted(table, [0, 700, 1999])
    splits = with_first_rows(make_splits(list_objects(str(table)), SplitSettings(split_bytes=4096, pack_below_bytes=0)))
    assert len(splits) > 4
    read = [
        block.rows
        for split in splits
        for span in split.spans
        for block in read_span(span, SourceSettings(), ReadSettings(block_rows=64), {})
    ]
    read_rows = pl.concat(read).sort("row")
    assert read_rows["row"].to_list() == [row for row in range(1, 2001) if row not in {1, 701, 2000}]
    assert read_rows["text"].to_list() == [rows["text"][row - 1] for row in read_rows["row"]]


def test_the_version_of_a_file_is_its_entry_in_the_log(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": ["a"]})
    before = list_objects(str(table))[0]
    next(table.glob("*.parquet")).touch()
    write_table(table, {"text": ["b"]}, mode="append")
    after = {item.uri: item.version for item in list_objects(str(table))}
    assert after[before.uri] == before.version
    assert len(after) == 2


def _without_first_commit(table: Path) -> None:
    (table / "_delta_log" / f"{0:020d}.json").unlink()


def _with_gap(table: Path) -> None:
    (table / "_delta_log" / f"{1:020d}.json").unlink()


def _without_checkpoint(table: Path) -> None:
    DeltaTable(str(table)).create_checkpoint()
    for file in (*(table / "_delta_log").glob("*.json"), *(table / "_delta_log").glob("*.checkpoint.parquet")):
        file.unlink()


def _broken_checkpoint(table: Path) -> None:
    DeltaTable(str(table)).create_checkpoint()
    next((table / "_delta_log").glob("*.checkpoint.parquet")).write_bytes(b"PAR1")


def _torn_commit(table: Path) -> None:
    (table / "_delta_log" / f"{3:020d}.json").write_text('{"add":{"pa')


def _newer_reader(table: Path) -> None:
    append_actions(table, protocol(reader=9))


def _unknown_feature(table: Path) -> None:
    append_actions(table, protocol("timeTravelBackwards"))


def _variants(table: Path) -> None:
    append_actions(table, protocol("variantType"))


def _foreign_file(table: Path) -> None:
    append_actions(table, {"add": {**actions_of(table, "add")[0], "path": "../../secret.parquet"}})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_without_first_commit, "log cannot be read"),
        (_with_gap, "log cannot be read .*gap"),
        (_without_checkpoint, "log cannot be read .*checkpoint"),
        (_broken_checkpoint, "log cannot be read"),
        (_torn_commit, "log cannot be read"),
        (_newer_reader, "reader version.* 9"),
        (_unknown_feature, "timeTravelBackwards"),
        (_variants, "features variantType, which are not supported"),
        (_foreign_file, r"names the file ../../secret.parquet, which is not in the table's folder"),
    ],
)
def test_a_table_that_cannot_be_read_ends_the_run_by_name(
    tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    table = write_table(tmp_path / "raw/table", {"text": ["a"]})
    for text in "bc":
        write_table(table, {"text": [text]}, mode="append")
    (tmp_path / "raw/loose.jsonl").write_text('{"text": "loose"}')
    damage(table)
    with pytest.raises(SourceError, match=f"^{table}: .*{complaint}") as caught:
        list_objects(str(tmp_path / "raw"))
    assert "\n" not in str(caught.value)


def test_files_of_a_clone_lie_elsewhere(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": ["a"]})
    add = actions_of(table, "add")[0]
    clone = tmp_path / "clone"
    append_actions(
        clone,
        protocol(reader=1),
        {"metaData": actions_of(table, "metaData")[0]},
        {"add": {**add, "path": f"file://{table}/{add['path']}"}},
    )
    assert [item.uri for item in list_objects(str(clone))] == [f"{table}/{add['path']}"]
    assert texts(clone) == ["a"]


@pytest.mark.s3
def test_a_table_on_s3_is_read_with_one_look_at_the_log(
    s3: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = partitioned(tmp_path / "t")
    mark_deleted(write_table(tmp_path / "u", {"text": ["a", "b"]}), [0])
    s3.filesystem().put(str(table), f"{s3_bucket[5:]}/raw/t", recursive=True)
    s3.filesystem().put(str(tmp_path / "u"), f"{s3_bucket[5:]}/raw/u", recursive=True)
    raw = f"{s3_bucket}/raw"
    assert sorted(_texts_at(raw)) == ["a", "b", "b", "c", "d"]
    assert _texts_at(f"{raw}/t/lang=en") == _texts_at(f"{raw}/t/lang=e*/*.parquet") == ["a"]
    requests: list[str] = []
    client = type(filesystem(raw))
    call = client._call_s3

    async def calling(self: S3FileSystem, method: str, *args: Any, **options: Any) -> Any:
        requests.append(f"{method} {options['Prefix']}")
        return await call(self, method, *args, **options)

    monkeypatch.setattr(client, "_call_s3", calling)
    assert len(list_objects(f"{raw}/t")) == 4
    assert requests == ["list_objects_v2 raw/t/_delta_log/"]


def _texts_at(uri: str) -> list[str]:
    blocks = [
        block.rows
        for item in list_objects(uri)
        for block in read_span(Span(object=item), SourceSettings(), ReadSettings(), {})
    ]
    return pl.concat(blocks)["text"].to_list()


@pytest.mark.s3
def test_a_table_on_s3_that_cannot_be_read_is_named(s3: S3Server, s3_bucket: str) -> None:
    root = f"{s3_bucket[5:]}/raw/table"
    s3.filesystem().pipe({f"{root}/_delta_log/{0:020d}.json": b"{}", f"{root}/part-0.parquet": b"x"})
    for raw in ("raw", "raw/table", "raw/table/*.parquet"):
        with pytest.raises(
            SourceError, match=f"{s3_bucket}/raw/table: is a table of Delta Lake whose log cannot be read"
        ):
            list_objects(f"{s3_bucket}/{raw}")


def test_a_table_without_files_has_no_objects(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", {"text": ["a"]})
    DeltaTable(str(table)).delete()
    assert delta_files(str(table)) == []
    with pytest.raises(EmptySourceError, match="has no such file"):
        list_objects(str(table))


def test_a_file_is_read_where_its_folder_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')

    def refuse(uri: str) -> dict[str, int]:
        raise StorageError(f"{uri}: access denied", uri=uri)

    monkeypatch.setattr(recognise, "list_names", refuse)
    assert texts(tmp_path / "a.jsonl") == ["a"]
    with pytest.raises(StorageError, match="access denied"):
        list_objects(str(tmp_path))
