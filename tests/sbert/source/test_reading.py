"""Every format, plain and compressed: rows, row numbers, ids, and what is wrong with the rest."""

import csv
import gzip
import io
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import BrokenObjectError, ColumnError, StorageError
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.settings import ReadSettings, SourceSettings, SplitSettings
from sbert.source.splits import make_splits
from tests.support.reading import TEXT_AND_ID, compress, read_all

LINES = [
    {"id": 7, "text": "one", "n": 1},
    {"id": "b", "text": "two \u2603", "n": None},
    {"text": "three", "n": 3, "extra": {}},
]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2", ".xz"])
def test_rows_of_json_lines_are_read_plain_and_compressed(tmp_path: Path, ending: str) -> None:
    data = "\n".join(json.dumps(line, ensure_ascii=False) for line in LINES).encode()
    (tmp_path / f"a.jsonl{ending}").write_bytes(compress(data, ending))
    block = read_all(tmp_path, SourceSettings(keep_columns=("n",)))
    assert block.rows.select("row", "id", "text", "kept:n").rows() == [
        (1, "7", "one", 1),
        (2, "b", "two \u2603", None),
        (3, f"a.jsonl{ending}:3", "three", 3),
    ]
    assert block.rows["source"].unique().to_list() == [str(tmp_path / f"a.jsonl{ending}")]
    assert block.rejects.height == 0


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2", ".xz"])
def test_quoted_newlines_and_a_byte_order_mark_of_csv_are_understood(tmp_path: Path, ending: str) -> None:
    data = b'\xef\xbb\xbfid,text,n\r\n1,"two\nlines, and a ""quote""",5\r\n2,plain,\r\n'
    (tmp_path / f"a.csv{ending}").write_bytes(compress(data, ending))
    block = read_all(tmp_path, SourceSettings(keep_columns=("n",)))
    assert block.rows.select("row", "id", "text", "kept:n").rows() == [
        (1, "1", 'two\nlines, and a "quote"', 5),
        (2, "2", "plain", None),
    ]


@pytest.mark.parametrize("row_groups", [None, 2])
def test_rows_of_parquet_are_read_with_their_types_for_every_size_of_row_groups(
    tmp_path: Path, row_groups: int | None
) -> None:
    frame = pl.DataFrame(
        {
            "key": [1, 2, 3, 4, 5],
            "body": ["a", "b", None, "d", "e"],
            "when": pl.date_range(pl.date(2026, 1, 1), pl.date(2026, 1, 5), eager=True),
        }
    )
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=row_groups)
    source = SourceSettings(text_column="body", id_column="key", keep_columns=("when",))
    block = read_all(tmp_path, source, split=SplitSettings(pack_below_bytes=0, split_bytes=1))
    assert block.rows.select("row", "id", "text").rows() == [(1, "1", "a"), (2, "2", "b"), (4, "4", "d"), (5, "5", "e")]
    assert block.rows.schema["kept:when"] == pl.Date
    assert block.rejects.select("row", "reason").rows() == [(3, "null_text")]


def test_plain_text_is_a_row_a_line_or_a_row_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"first\n\nthird \xff line\nfourth")
    block = read_all(tmp_path)
    assert block.rows.select("row", "id", "text").rows() == [
        (1, "a.txt:1", "first"),
        (2, "a.txt:2", ""),
        (4, "a.txt:4", "fourth"),
    ]
    assert block.rejects.select("row", "reason", "original").rows() == [(3, "invalid_utf8", b"third \xff line")]
    (tmp_path / "a.txt").write_text("first\nsecond\n")
    whole = read_all(tmp_path, SourceSettings(text_documents="file"))
    assert whole.rows.select("row", "text").rows() == [(1, "first\nsecond\n")]


def test_bad_json_lines_keep_their_number_and_bytes(tmp_path: Path) -> None:
    good = [json.dumps({"id": str(n), "text": f"t{n}", "n": n}).encode() for n in range(10)]
    good[6] = b"{broken"
    good[2] = b'["not", "an object"]'
    good[4] = b'{"id": "4", "text": "caf\xe9", "n": 4}'
    good[5] = b'{"id": "5", "text": {"a": 1}, "n": 5}'
    good[8] = b'{"id": "8", "text": "t8", "n": "many"}'
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([*good, b"   ", b'{"id": "x", "n": 1}']))
    block = read_all(tmp_path, SourceSettings(keep_columns=("n",)), kept_schema={"n": pl.Int64()})
    assert block.rows["id"].to_list() == ["0", "1", "3", "7", "8", "9"]
    assert block.misfits.select("row", "id", "original").rows() == [(9, "8", "many")]
    assert sorted(block.rejects.select("row", "reason").rows()) == [
        (3, "broken_row"), (5, "invalid_utf8"), (6, "bad_value"), (7, "broken_row"), (12, "null_text"),
    ]  # fmt: skip
    assert block.rejects.filter(pl.col("row") == 7)["original"][0] == b"{broken"


def test_null_ids_are_rejected_only_where_an_id_column_was_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "a"}\n{"text": "b"}\n')
    assert read_all(tmp_path).rows["id"].to_list() == ["1", "a.jsonl:2"]
    named = read_all(tmp_path, SourceSettings(id_column="id"))
    assert named.rows["id"].to_list() == ["1"]
    assert named.rejects.select("row", "reason").rows() == [(2, "null_id")]


def test_bad_records_of_csv_are_rejected_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n1,éééééééééé\n2,too,many\n".encode() + b"3,caf\xe9\n4,fine too\n")
    block = read_all(tmp_path)
    assert block.rows["id"].to_list() == ["1", "4"]
    assert sorted(block.rejects.select("row", "reason", "detail").rows()) == [
        (2, "broken_row", "3 fields, the header has 2"),
        (3, "invalid_utf8", "the record is not UTF-8"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b""), ("a.csv", b""), ("a.csv", b"id,text\n"), ("a.txt", b""), ("a.jsonl", b"\n\n")],
)
def test_an_object_without_rows_gives_no_row_and_no_reject(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "z.jsonl").write_text('{"text": "x"}\n')
    block = read_all(tmp_path)
    assert block.rows.height == 1
    assert block.rejects.height == 0


def test_a_long_line_is_read_and_a_too_long_one_rejected(tmp_path: Path) -> None:
    long = json.dumps({"id": "1", "text": "x" * 5_000_000})
    (tmp_path / "a.jsonl").write_text(f'{{"id": "0", "text": "a"}}\n{long}\n{{"id": "2", "text": "b"}}\n')
    read = ReadSettings(block_bytes=65_536)
    assert [len(text) for text in read_all(tmp_path, read=read).rows["text"]] == [1, 5_000_000, 1]
    strict = read_all(tmp_path, read=ReadSettings(block_bytes=65_536, max_row_bytes=1_000_000))
    assert strict.rows.select("row", "id").rows() == [(1, "0"), (3, "2")]
    assert strict.rejects.select("row", "reason", "detail").rows() == [
        (2, "too_long", f"{len(long) + 1} bytes, at most 1000000 are read")
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.txt.gz", "a.parquet"])
def test_truncated_objects_are_broken(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pl.DataFrame({"text": [f"t{n}" for n in range(5000)]}).write_parquet(tmp_path / name)
        data = (tmp_path / name).read_bytes()
    else:
        plain = b"text\n" if "csv" in name else b""
        plain += b"".join(b'{"text": "%d"}\n' % n if "json" in name else b"%d\n" % n for n in range(5000))
        data = compress(plain, name[name.rfind(".") :])
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "z.jsonl").write_text('{"text": "x"}\n')
    objects = list_objects(str(tmp_path))
    span = make_splits(objects[:1], SplitSettings(pack_below_bytes=0, split_bytes=100))[0].spans[0]
    with pytest.raises(BrokenObjectError, match=name):
        list(read_span(span, TEXT_AND_ID, ReadSettings(), {}))


def test_an_unclosed_quote_breaks_the_object(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,fine\n2,"never closed\n3,lost\n')
    with pytest.raises(BrokenObjectError, match="unexpected end of data"):
        read_all(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"key": ["1"], "body": ["x"]})
    {"a.jsonl": frame.write_ndjson, "a.csv": frame.write_csv, "a.parquet": frame.write_parquet}[name](tmp_path / name)
    with pytest.raises(ColumnError, match=r"no column 'text', the columns are: 'key', 'body'"):
        read_all(tmp_path)
    with pytest.raises(ColumnError, match=r"no column 'lang', the columns are: 'key', 'body'"):
        read_all(tmp_path, SourceSettings(text_column="body", keep_columns=("lang",)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_a_small_object_is_one_block(tmp_path: Path, name: str) -> None:
    plain = b"".join(b'{"text": "text %d"}\n' % n for n in range(2_000))
    (tmp_path / name).write_bytes(compress(plain, name[name.rfind(".") :]))
    (item,) = list_objects(str(tmp_path))
    blocks = list(read_span(Span(object=item), TEXT_AND_ID if "json" in name else SourceSettings(), ReadSettings(), {}))
    assert [block.num_rows_read for block in blocks] == [2_000]


def test_storage_failures_are_not_broken_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000))
    span = make_splits(list_objects(str(tmp_path)), SplitSettings())[0].spans[0]
    monkeypatch.setenv("SBERT_STORAGE_SECONDS", "0.1")

    def reset(*_: object) -> bytes:
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileOpener.read", reset, raising=False)
    with pytest.raises(StorageError, match="connection reset") as caught:
        list(read_span(span, TEXT_AND_ID, ReadSettings(), {}))
    assert caught.value.transient


def test_kept_columns_of_json_have_the_type_that_fits_all_values(tmp_path: Path) -> None:
    lines = [
        {"text": "a", "i": 1, "f": 1, "b": True, "s": "x", "o": {"k": [1]}, "z": None},
        {"text": "b", "i": 2, "f": 2.5, "b": False, "s": 3, "o": None, "z": None},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = ("i", "f", "b", "s", "o", "z")
    block = read_all(tmp_path, SourceSettings(keep_columns=names))
    assert [block.rows.schema[f"kept:{name}"] for name in names] == [
        pl.Int64,
        pl.Float64,
        pl.Boolean,
        pl.String,
        pl.String,
        pl.String,
    ]
    assert block.rows.select(f"kept:{name}" for name in names).rows() == [
        (1, 1.0, True, "x", '{"k": [1]}', None),
        (2, 2.5, False, "3", None, None),
    ]
    csv_file = io.StringIO()
    csv.writer(csv_file).writerows([["text", "i", "b"], ["a", 1, "true"], ["b", 2, "false"]])
    (tmp_path / "c").mkdir()
    (tmp_path / "c/c.csv").write_text(csv_file.getvalue())
    kept = read_all(tmp_path / "c", SourceSettings(keep_columns=("i", "b"))).rows
    assert kept.select("kept:i", "kept:b").rows() == [(1, True), (2, False)]


LINE = st.one_of(
    st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=30)),
    st.sampled_from([b"", b"{broken", b"  ", b'{"text": "caf\xe9"}', b"[1]"]),
)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINE, max_size=25),
    ends=st.booleans(),
    split_bytes=st.integers(1, 200),
    block_bytes=st.integers(1024, 2048),
    crlf=st.booleans(),
)
def test_the_slices_of_an_object_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    ends: bool,
    split_bytes: int,
    block_bytes: int,
    crlf: bool,
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    newline = b"\r\n" if crlf else b"\n"
    data = newline.join([b'{"text": "first"}', *lines]) + (newline if ends else b"")
    (folder / "a.jsonl").write_bytes(data)
    read = ReadSettings(block_bytes=block_bytes)
    whole = read_all(folder, read=read, split=SplitSettings(split_bytes=10**9))
    sliced = read_all(folder, read=read, split=SplitSettings(pack_below_bytes=0, split_bytes=split_bytes))
    assert sliced.rows.rows() == whole.rows.rows()
    columns = ["row", "reason", "original"]
    assert sliced.rejects.select(columns).rows() == whole.rejects.select(columns).rows()
    assert whole.num_rows_read == sum(1 for line in data.split(b"\n") if line.strip())


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_an_object_that_becomes_far_larger_than_it_is_stored_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbert.source.streams.ALWAYS_BYTES", 2**20)
    monkeypatch.setattr("sbert.source.streams.MAX_EXPANSION", 100)
    (tmp_path / f"a.jsonl{ending}").write_bytes(compress(b"\n" * 2**24, ending))
    with pytest.raises(BrokenObjectError, match="expand to more than 100 times their size"):
        read_all(tmp_path, kept_schema={})
