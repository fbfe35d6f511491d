"""Input as it should not be: each time a clear error or a counted reject, and nothing else is lost."""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import torch

from sbert.encoder import SentenceEncoder
from sbert.errors import (
    ColumnError,
    EncoderMismatchError,
    IncompleteError,
    ModelError,
    NotATableError,
    QualityError,
    SbertError,
    SettingsError,
    StorageError,
)
from sbert.job import RefreshSettings
from sbert.loading import EncoderSpec, load_encoder
from sbert.report import RefreshReport
from sbert.shards import ShardSettings, ShardWriter, table_schema
from sbert.table import Table, commit
from tests.flows.test_refresh import Rows, read, refresh, rejects_of, rows, split_every_object, texts, write
from tests.services import S3Server
from tests.tiny_models import save_tiny, tiny_encoder

pytestmark = pytest.mark.usefixtures("prefect_server")

NOBODY = 65534
LONG_BYTES = 5_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("model"))


def write_as(path: Path, lines: Rows) -> Path:
    """Write rows in the format that the ending of the name says; plain text has no ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame(lines).write_parquet(path)
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
        path.write_text(text.getvalue())
    elif path.suffix == ".txt":
        path.write_text("".join(f"{line['text']}\n" for line in lines))
    else:
        write(path, lines)
    return path


def ids_of(table: Path) -> set[str]:
    return set(read(table)["id"])


def incomplete(raw: Path, table: Path, **options: object) -> RefreshReport:
    """Refresh with objects that cannot be read; give the report of what was done all the same."""
    with pytest.raises(IncompleteError) as caught:
        refresh(raw, table, **options)
    assert isinstance(caught.value.report, RefreshReport)
    return caught.value.report


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", b""),
        ("blank.jsonl", b"\n\n"),
        ("empty.csv", b""),
        ("header.csv", b"id,text\n"),
        ("header.csv.gz", None),
        ("empty.txt", b""),
        ("norows.parquet", None),
    ],
)
def test_an_object_without_rows_beside_one_with_rows(
    tmp_path: Path, model: str, name: str, content: bytes | None
) -> None:
    write(tmp_path / "raw/good.jsonl", rows(0, 10))
    if name == "header.csv.gz":
        import gzip

        content = gzip.compress(b"id,text\n")
    if content is None:
        pl.DataFrame(schema={"id": pl.String, "text": pl.String}).write_parquet(tmp_path / "raw" / name)
    else:
        (tmp_path / "raw" / name).write_bytes(content)
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, settings=split_every_object())
    assert (report.num_objects, report.num_rows_read, report.num_rows) == (2, 10, 10)
    again = refresh(tmp_path / "raw", tmp_path / "table", settings=split_every_object())
    assert (again.version, again.num_splits_built) == (0, 0)


def test_nothing_but_objects_without_rows(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/header.csv").write_text("id,text,lang\n")
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, keep_columns=["lang"])
    assert (report.version, report.num_rows) == (0, 0)
    assert read(tmp_path / "table").columns[-1] == "lang"
    write_as(tmp_path / "raw/rows.csv", [{"id": "1", "text": "red", "lang": "en"}])
    assert refresh(tmp_path / "raw", tmp_path / "table", keep_columns=["lang"]).num_rows == 1


@pytest.mark.parametrize("kept_bytes", [20, 200, -9])
def test_truncated_parquet_keeps_its_earlier_rows(tmp_path: Path, model: str, kept_bytes: int) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    write_as(raw / "a.parquet", rows(0, 20))
    write_as(raw / "b.parquet", rows(20, 20))
    refresh(raw, table, model=model, settings=split_every_object())
    (raw / "a.parquet").write_bytes((raw / "a.parquet").read_bytes()[:kept_bytes])
    write_as(raw / "b.parquet", rows(30, 20))
    report = incomplete(raw, table, settings=split_every_object())
    assert list(report.broken_objects) == [str(raw / "a.parquet")]
    assert ids_of(table) == {str(n) for n in [*range(20), *range(30, 50)]}
    write_as(raw / "a.parquet", rows(5, 10))
    refresh(raw, table, settings=split_every_object(), allow_drop=True)
    assert ids_of(table) == {str(n) for n in [*range(5, 15), *range(30, 50)]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_a_line_of_5_megabytes(tmp_path: Path, model: str, name: str) -> None:
    lines = rows(0, 3)
    lines[1]["text"] = "butter " * (LONG_BYTES // 7)
    write_as(tmp_path / "raw" / name, lines)
    refused = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert (refused.num_rows, refused.rejects_by_reason) == (2, {"too_long": 1})
    assert rejects_of(str(tmp_path / "table"))["row"].to_list() == [2]
    taken = refresh(tmp_path / "raw", tmp_path / "table", settings=split_every_object(cleaning={"max_chars": None}))
    assert (taken.num_rows, taken.num_rows_truncated) == (3, 1)
    assert read(tmp_path / "table")["num_tokens"].max() == LONG_BYTES // 7 + 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_invalid_utf8_costs_its_row_only(tmp_path: Path, model: str, name: str) -> None:
    lines = rows(0, 10)
    lines[6]["text"] = "caf@ au lait"
    path = write_as(tmp_path / "raw" / name, lines)
    if name.endswith(".parquet"):
        values = [str(line["text"]).encode().replace(b"@", b"\xe9") for line in lines]
        pl.DataFrame(lines).with_columns(pl.Series("text", values, dtype=pl.Binary)).write_parquet(path)
    else:
        path.write_bytes(path.read_bytes().replace(b"@", b"\xe9"))
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert (report.num_rows_read, report.num_rows, report.rejects_by_reason) == (10, 9, {"invalid_utf8": 1})
    rejected = rejects_of(str(tmp_path / "table"))
    assert rejected["row"].to_list() == [7]
    assert b"caf\xe9 au lait" in rejected["original"][0]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("wrong", ["text_column", "id_column", "keep_columns"])
def test_a_column_that_is_nowhere(tmp_path: Path, model: str, name: str, wrong: str) -> None:
    write_as(tmp_path / "raw" / name, rows(0, 5))
    value = ["boddy"] if wrong == "keep_columns" else "boddy"
    with pytest.raises(ColumnError, match=rf"{name}: no column 'boddy', the columns are: id, text, kind"):
        refresh(tmp_path / "raw", tmp_path / "table", model=model, **{wrong: value})
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("name", ["b.csv", "b.parquet"])
def test_one_object_without_the_column(tmp_path: Path, model: str, name: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    write_as(tmp_path / "raw" / name, [{"id": "x", "body": "red"}])
    write(tmp_path / "raw/c.jsonl", rows(10, 10))
    report = incomplete(tmp_path / "raw", tmp_path / "table", model=model)
    assert "no column 'text', the columns are: id, body" in report.broken_objects[str(tmp_path / "raw" / name)]
    assert ids_of(tmp_path / "table") == {str(n) for n in range(20)}


def test_ids_that_are_null_where_a_column_was_named(tmp_path: Path, model: str) -> None:
    lines = rows(0, 10)
    lines[4]["id"] = None
    write(tmp_path / "raw/a.jsonl", lines)
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model, id_column="id")
    assert (report.num_rows, report.rejects_by_reason) == (9, {"null_id": 1})
    derived = refresh(tmp_path / "raw", tmp_path / "derived", model=model)
    assert derived.num_rows == 10
    assert "a.jsonl:5" in ids_of(tmp_path / "derived")


NAMES = [
    "a b",
    "ü é",
    "x#1",
    "p%20q",
    "wh?t",
    "new\nline",
    "st*r",
    "br[a]",
    "q'uo\"te",
    "sub dir/c",
    "日本/本",
    "b\\s",
    "+&=",
]


def test_names_of_every_kind(tmp_path: Path, model: str) -> None:
    for number, name in enumerate(NAMES):
        write(tmp_path / f"raw/{name}.jsonl", rows(number, 1))
    first = refresh(tmp_path / "raw", tmp_path / "ta ble ü", model=model)
    assert first.num_rows == len(NAMES)
    table = read(tmp_path / "ta ble ü")
    assert set(table["source"]) == {str(tmp_path / f"raw/{name}.jsonl") for name in NAMES}
    assert refresh(tmp_path / "raw", tmp_path / "ta ble ü").num_splits_built == 0


@pytest.mark.s3
def test_names_of_every_kind_on_s3(tmp_path: Path, model: str, s3: S3Server, s3_bucket: str) -> None:
    names = [name for name in NAMES if "\n" not in name and "\\" not in name]
    client = s3.filesystem()
    for number, name in enumerate(names):
        client.pipe_file(f"{s3_bucket}/ra w/{name}.jsonl", json.dumps(rows(number, 1)[0]).encode())
    refresh(f"{s3_bucket}/ra w", f"{s3_bucket}/ta ble ü", model=model)
    assert set(read(f"{s3_bucket}/ta ble ü")["source"]) == {f"{s3_bucket}/ra w/{name}.jsonl" for name in names}
    assert refresh(f"{s3_bucket}/ra w", f"{s3_bucket}/ta ble ü").num_splits_built == 0


def test_symbolic_links(tmp_path: Path, model: str) -> None:
    write(tmp_path / "elsewhere/a.jsonl", rows(0, 5))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/link.jsonl").symlink_to(tmp_path / "elsewhere/a.jsonl")
    report = refresh(tmp_path / "raw", tmp_path / "table", model=model)
    assert (report.num_rows, set(read(tmp_path / "table")["source"])) == (5, {str(tmp_path / "raw/link.jsonl")})
    write(tmp_path / "elsewhere/a.jsonl", rows(0, 8))  # the version is that of the file, not of the link
    assert refresh(tmp_path / "raw", tmp_path / "table").num_rows == 8


@pytest.mark.parametrize(
    ("raw", "table", "message"),
    [
        ("raw", "raw/table", r"raw/table: the table would lie within the raw text"),
        ("raw", "raw", r"within the raw text"),
        ("raw/**/*", "raw/deep/table", r"within the raw text"),
        ("table/raw", "table", r"table/raw: the raw text lies within the table"),
    ],
)
def test_raw_text_and_table_in_each_other(tmp_path: Path, model: str, raw: str, table: str, message: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    with pytest.raises(SettingsError, match=message):
        refresh(tmp_path / raw, tmp_path / table, model=model)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "a.jsonl"]


def test_a_table_beside_the_raw_text(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    for table in ("raw/_table", "raw2", "table"):
        assert refresh(tmp_path / "raw", tmp_path / table, model=model).num_rows == 5
    assert refresh(tmp_path / "raw/*.jsonl", tmp_path / "raw/other", model=model).num_rows == 5


@pytest.mark.parametrize(("name", "character"), [("p%20q", "%"), ("a#b", "#"), ("a?b", r"\?")])
def test_a_table_whose_name_the_log_cannot_hold(tmp_path: Path, model: str, name: str, character: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    with pytest.raises(SettingsError, match=rf"the Delta log's client reads {character} as part of an address"):
        refresh(tmp_path / "raw", tmp_path / name, model=model)
    assert not (tmp_path / name).exists()


def test_a_file_in_the_place_of_the_table(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 5))
    write(tmp_path / "file.jsonl", rows(0, 5))
    with pytest.raises(NotATableError, match=r"file\.jsonl: this is a file, a table is a folder"):
        refresh(tmp_path / "raw", tmp_path / "file.jsonl", model=model)


def test_columns_kept_may_change_but_not_repeat(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    report = refresh(tmp_path / "raw", tmp_path / "table", keep_columns=["kind"])
    assert (report.version, report.num_rows_carried, report.num_texts_encoded) == (1, 10, 0)
    assert set(read(tmp_path / "table")["kind"]) == {"even", "odd"}
    with pytest.raises(ValueError, match="keep_columns names a column twice"):
        RefreshSettings().with_source(keep_columns=["kind", "kind"])


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sbert-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def readable_model(folder: Path) -> str:
    model = save_tiny(folder / "model")
    for path in Path(model).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return model


def test_no_permission_to_write(open_folder: Path) -> None:
    raw, parent = open_folder / "raw", open_folder / "closed"
    model = readable_model(open_folder)
    write(raw / "a.jsonl", rows(0, 5))
    parent.mkdir()
    refresh(raw, parent / "table", model=model)
    write(raw / "a.jsonl", rows(0, 8))
    for path in (parent, parent / "table", *(parent / "table").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with without_root():
            for table in (parent / "table", parent / "new"):
                with pytest.raises(
                    StorageError, match=r"access denied.*check the owner and mode of the folder"
                ) as caught:
                    refresh(raw, table, model=None if table.name == "table" else model)
                assert not caught.value.transient
    finally:
        for path in (parent, parent / "table", *(parent / "table").rglob("*")):
            path.chmod(0o755)
    assert (Table.open(str(parent / "table")).version, ids_of(parent / "table")) == (0, {str(n) for n in range(5)})
    assert not (parent / "new").exists()


def test_no_permission_to_read_one_object(open_folder: Path) -> None:
    model = readable_model(open_folder)
    for name, first in (("a", 0), ("b", 10)):
        write(open_folder / f"raw/{name}.jsonl", rows(first, 10))
    (open_folder / "raw/b.jsonl").chmod(0)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)
    with without_root():
        report = incomplete(open_folder / "raw", open_folder / "out/table", model=model, settings=split_every_object())
    assert "access denied" in report.broken_objects[str(open_folder / "raw/b.jsonl")]
    assert ids_of(open_folder / "out/table") == {str(n) for n in range(10)}


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _pickled(folder: Path) -> None:
    encoder = tiny_encoder()
    torch.save(dict(encoder.transformer.state_dict()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _collapsed(folder: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        for parameter in encoder.transformer.parameters():
            if parameter.ndim == 2:
                parameter.zero_()
            else:
                parameter.fill_(0.5)
        encoder.transformer.encoder.layer[-1].output.LayerNorm.bias.copy_(torch.arange(32) / 32)
    encoder.save_pretrained(folder)


def _with_nan(folder: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.transformer.encoder.layer[0].output.dense.weight[0, 0] = float("nan")
    encoder.save_pretrained(folder)


@pytest.mark.parametrize(
    ("arrange", "error", "message"),
    [
        (_without_tokenizer, ModelError, "tokenizer"),
        (_pickled, ModelError, r"safetensors"),
        (_collapsed, QualityError, "the encoder has collapsed or was loaded wrongly, nothing was published"),
        (_with_nan, QualityError, "NaN"),
        (shutil.rmtree, SbertError, "no such model folder"),
    ],
)
def test_a_model_that_must_not_make_vectors(
    tmp_path: Path, arrange: Callable[[Path], None], error: type[SbertError], message: str
) -> None:
    save_tiny(tmp_path / "model")
    arrange(tmp_path / "model")
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with pytest.raises(error, match=message):
        refresh(tmp_path / "raw", tmp_path / "table", model=str(tmp_path / "model"))
    assert not (tmp_path / "table").exists()


def test_vectors_that_are_all_alike_are_not_published(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    # The tiny model knows no Cyrillic letters: for it these are one text.
    words = [first + second for first in "бгджзлнф" for second in "бгджзлнфш"]
    write(tmp_path / "raw/b.jsonl", [{"id": f"b{n}", "text": word} for n, word in enumerate(words)])
    with pytest.raises(QualityError, match=r"mean cosine of 1\.0000"):
        refresh(tmp_path / "raw/b.jsonl", tmp_path / "table", allow_drop=True)
    assert (Table.open(str(tmp_path / "table")).version, ids_of(tmp_path / "table")) == (0, {str(n) for n in range(10)})


def test_a_table_refuses_rows_of_another_encoder(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    table = Table.open(str(tmp_path / "table"))
    stranger = table.encoder.model_copy(update={"fingerprint": "f" * 64})
    with ShardWriter(table.uri, "e" * 32, table_schema({}), ShardSettings()) as writer:
        writer.write(read(table.uri).to_arrow())
        shards = writer.close()
    with pytest.raises(EncoderMismatchError, match=r"of an encoder with fingerprint f{12}: choose the table's encoder"):
        commit(table.uri, table, add=shards, drop=[], encoder=stranger, kept_schema={}, metadata={})
    assert Table.open(table.uri).version == 0
    assert read(table.uri).height == 10


@pytest.mark.s3
def test_more_objects_than_one_page_of_a_listing(model: str, s3: S3Server, s3_bucket: str) -> None:
    client = s3.filesystem()
    num_objects = 1_050
    client.pipe({f"{s3_bucket}/raw/{n:05d}.txt": texts(n, 1)[0].encode() for n in range(num_objects)})
    first = refresh(f"{s3_bucket}/raw", f"{s3_bucket}/table", model=model, concurrency=4)
    assert (first.num_objects, first.num_rows) == (num_objects, num_objects)
    client.pipe_file(f"{s3_bucket}/raw/one-more.txt", b"red green blue")
    second = refresh(f"{s3_bucket}/raw", f"{s3_bucket}/table")
    assert (second.num_rows, second.num_texts_encoded, second.num_splits_built) == (num_objects + 1, 1, 1)
    assert read(f"{s3_bucket}/table")["source"].n_unique() == num_objects + 1


@pytest.mark.s3
def test_an_empty_prefix_on_s3(model: str, s3_bucket: str) -> None:
    with pytest.raises(StorageError, match="no objects under this prefix"):
        refresh(f"{s3_bucket}/nothing", f"{s3_bucket}/table", model=model)


def test_the_encoder_is_the_same_after_all_this(model: str) -> None:
    """The process keeps one encoder: failed loads must not have replaced it by something else."""
    loaded = load_encoder(EncoderSpec(model=model, normalize=True))
    assert loaded.fingerprint == SentenceEncoder.from_pretrained(model, normalize=True).fingerprint
