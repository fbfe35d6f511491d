"""CSV and TSV as teams have them: the dialect is told by looking, and both readers give the same rows."""

import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sbert.errors import BrokenObjectError, ColumnError
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import Hints
from sbert.source.formats.csv_dialect import dialect_of_head
from sbert.source.listing import list_objects
from sbert.source.settings import CsvSettings, ReadSettings, SourceSettings, SplitSettings
from tests.support.reading import read_all


def rows_of(raw: Path, **source: object) -> list[tuple[object, ...]]:
    block = read_all(raw, SourceSettings.model_validate(source))
    assert block.rejects.height == 0, block.rejects
    return block.rows.select("row", "id", "text").rows()


@pytest.mark.parametrize(
    ("name", "content", "described"),
    [
        ("a.csv", 'id,text\n1,"a, b"\n2,c;d\n', "comma, double quotes, utf-8"),
        ("a.csv", 'id;text\n1;"a, b"\n2;c;d'.replace("c;d", '"c;d"'), "semicolon, double quotes, utf-8"),
        ("a.csv", "id|text\n1|a, b\n2|c;d\n", "bar, double quotes, utf-8"),
        ("a.csv", "id\ttext\n1\ta, b\n2\tc;d\n", "tab, double quotes, utf-8"),
        ("a.tsv", "id\ttext\n1\ta, b\n2\tc;d\n", "tab, double quotes, utf-8"),
        ("a.csv", "id,text\n1,'a, b'\n2,c;d\n", "comma, single quotes, utf-8"),
    ],
)
def test_delimiter_and_quote_are_told_by_looking(tmp_path: Path, name: str, content: str, described: str) -> None:
    (tmp_path / name).write_text(content)
    assert rows_of(tmp_path) == [(1, "1", "a, b"), (2, "2", "c;d")]
    (item,) = list_objects(str(tmp_path))
    assert format_of(item.format).describe(item, Hints(wanted=("text",))) == described


def test_quotes_in_unquoted_tsv_are_characters_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\n" + "".join(f'{n}\t"{n} inches\n' for n in range(50)))
    assert rows_of(tmp_path)[7] == (8, "7", '"7 inches')


def test_two_delimiters_that_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,5;one\n2,5;two\n")
    with pytest.raises(BrokenObjectError, match=r"separated by ',' and ';', both fit: set source.csv.delimiter"):
        rows_of(tmp_path, text_column="column_2")
    assert rows_of(tmp_path, text_column="column_2", csv={"delimiter": ";"}) == [
        (1, "a.csv:1", "one"),
        (2, "a.csv:2", "two"),
    ]


def test_columns_without_a_header_are_named_by_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('neutral,"Sales, in all, rose"\nneutral,Profit fell\n')
    assert rows_of(tmp_path, text_column="column_2") == [
        (1, "a.csv:1", "Sales, in all, rose"),
        (2, "a.csv:2", "Profit fell"),
    ]
    with pytest.raises(ColumnError, match="no column 'column_2'"):
        rows_of(tmp_path, text_column="column_2", csv={"header": True})
    with pytest.raises(ColumnError, match="the columns are: 'column_1', 'column_2'"):
        rows_of(tmp_path, csv={"header": False})
    (tmp_path / "a.csv").write_text("1,neutral\n2,positive\n")
    with pytest.raises(ColumnError, match="CSV without a header is named by its number, such as column_1"):
        rows_of(tmp_path)


def test_a_setting_wins_over_looking(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,'a'\n")
    assert rows_of(tmp_path) == [(1, "1", "'a'")]
    assert rows_of(tmp_path, csv={"quote": "'"}) == [(1, "1", "a")]
    with pytest.raises(ColumnError, match=r"no column 'text', the columns are: 'id,text' \(nearest: 'id,text'\)"):
        rows_of(tmp_path, csv={"delimiter": "tab"})
    with pytest.raises(ValidationError, match="delimiter is '::': give one character, or tab"):
        CsvSettings(delimiter="::")


@pytest.mark.parametrize(
    ("encoding", "described"),
    [("utf-16", "utf-16"), ("cp1252", "windows-1252"), ("utf-8-sig", "utf-8"), ("latin-1", "windows-1252")],
)
def test_encodings_of_one_folder_are_told_object_by_object(tmp_path: Path, encoding: str, described: str) -> None:
    text = "id,text\n1,Café Müller, naïve\n".replace("Müller,", "Müller")
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    (tmp_path / "b.csv").write_text("id,text\n1,Straße ☃\n")
    assert [row[2] for row in rows_of(tmp_path)] == ["Café Müller naïve", "Straße ☃"]
    item = list_objects(str(tmp_path))[0]
    assert format_of("csv").describe(item, Hints()).endswith(described)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_utf16_without_a_mark_is_named(tmp_path: Path, name: str) -> None:
    content = {"a.csv": "id,text\n1,é one\n", "a.jsonl": '{"id": "1", "text": "é one"}\n', "a.txt": "é one\n"}[name]
    (tmp_path / name).write_bytes(content.encode("utf-16-le"))
    with pytest.raises(
        BrokenObjectError, match=r"UTF-16 without a byte-order mark: set source.encoding to utf-16-le \(--settings"
    ):
        rows_of(tmp_path)
    assert [row[2] for row in rows_of(tmp_path, encoding="utf-16-le")] == ["é one"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_json_lines_of_another_encoding_are_read_once_when_they_are_sliced(tmp_path: Path, encoding: str) -> None:
    lines = "".join(f'{{"id": "{n}", "text": "é {n}"}}\n' for n in range(40))
    (tmp_path / "a.jsonl").write_bytes(lines.encode(encoding))
    named = SourceSettings(encoding="latin-1" if encoding == "latin-1" else None)
    block = read_all(tmp_path, named, split=SplitSettings(split_bytes=256, pack_below_bytes=0))
    assert block.rows["text"].to_list() == [f"é {n}" for n in range(40)]


def test_two_encodings_that_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n1,é\n".encode() + "2,é\n".encode("latin-1"))
    with pytest.raises(BrokenObjectError, match="1 are UTF-8 and 1 are not, so both utf-8 and windows-1252 fit"):
        rows_of(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_a_character_that_is_cut_off_does_not_cost_its_row(tmp_path: Path, name: str) -> None:
    content = {
        "a.csv": b"id,text\n1,x \xf0\x9f\x98 y\n2,\xe2\x82\n",
        "a.jsonl": b'{"text": "x \xf0\x9f\x98 y"}\n{"text": "\xe2\x82"}\n',
        "a.txt": b"x \xf0\x9f\x98 y\n\xe2\x82\n",
    }[name]
    (tmp_path / name).write_bytes(content)
    assert [row[2] for row in rows_of(tmp_path)] == ["x \ufffd y", "\ufffd"]


VALUES = st.text(st.sampled_from('a";,\n\r\u00e9 '), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    block_bytes=st.sampled_from([1_024, 4_096]),
    damage=st.sampled_from(["", 'x"y,z\n', '"a"b,c\n', "one\n", "a,b,c\n"]),
)
def test_both_readers_give_the_rows_of_pythons_reader(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[list[str]],
    quoting: int,
    block_bytes: int,
    damage: str,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["id", "text"])
    writer.writerows(records * 30)
    text.write(damage)
    writer.writerows(records)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.getvalue().encode())
    expected = []
    reader = csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True)
    next(reader)
    while True:
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error:
            continue
        if len(record) == 2:
            expected.append(record)
    result = read_all(path, SourceSettings(csv=CsvSettings(delimiter=",")), ReadSettings(block_bytes=block_bytes))
    both = pl.concat(
        [result.rows.select("row", "text"), result.rejects.filter(reason="null_text").select("row", text=pl.lit(""))]
    )
    assert both.sort("row")["text"].to_list() == [record[1] for record in expected]


def test_a_record_may_be_longer_than_a_block(tmp_path: Path) -> None:
    long = "line one,\n" * 2_000
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{long}"\n2,short\n3,"{long}"')
    block = read_all(tmp_path, read=ReadSettings(block_bytes=1_024))
    assert block.rows["text"].to_list() == [long, "short", long]


def test_the_usual_dialect_stays_where_the_header_has_the_columns() -> None:
    hints = Hints(wanted=("text",))
    head = "text;x,text\na;1,2\n"
    assert dialect_of_head("a.csv", head, is_whole=True, hints=hints, usual=",").delimiter == ","
