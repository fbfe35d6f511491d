"""JSON documents: every layout gives the rows of JSON Lines, and a document that breaks off gives those before the break."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import BrokenObjectError, CutOffError
from sbert.source.blocks import RowBlock
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import Hints
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.settings import ReadSettings, SourceSettings
from tests.support.reading import read_all

RECORDS = [
    {"id": "a", "text": 'brackets ] } , and "quotes\\"', "n": 1.5},
    {"id": "b", "text": "two\nlines \u2603 \\", "n": None},
    {"id": "c", "text": "three", "nested": {"list": [1, {"x": "]"}]}},
]


def rows_of(block: RowBlock) -> list[tuple[object, ...]]:
    return block.rows.select("row", "id", "text", "kept:n").rows()


LAYOUTS = {
    "an array": json.dumps(RECORDS),
    "an array over many lines": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "an object with an array": json.dumps({"count": 3, "tags": ["x"], "rows": RECORDS, "done": True}, indent=1),
    "an object of records": json.dumps({record["id"]: record for record in RECORDS}, indent=1),
    "an object of records without ids": json.dumps(
        {record["id"]: {key: value for key, value in record.items() if key != "id"} for record in RECORDS}
    ),
    "a record a line": "\n".join(map(json.dumps, RECORDS)),
    "records one after the other": "\n".join(json.dumps(record, indent=1) for record in RECORDS),
}


@pytest.mark.parametrize("block_bytes", [1_024, 8 * 2**20])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path: Path, layout: str, block_bytes: int) -> None:
    (tmp_path / "a.json").write_text(LAYOUTS[layout])
    source = SourceSettings(keep_columns=("n",))
    block = read_all(tmp_path, source, ReadSettings(block_bytes=block_bytes))
    assert rows_of(block) == [
        (1, "a", RECORDS[0]["text"], 1.5),
        (2, "b", RECORDS[1]["text"], None),
        (3, "c", "three", None),
    ]
    assert block.rejects.height == 0
    (item,) = list_objects(str(tmp_path))
    assert format_of("json").count(item, ReadSettings(), Hints()) == 3


def test_one_record_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n "id": "x", "text": {"not": "text"}, "n": 1}')
    block = read_all(tmp_path, SourceSettings(keep_columns=("n",)))
    assert block.rejects["reason"].to_list() == ["bad_value"]
    (tmp_path / "a.json").write_text('{"text": "one"}')
    assert read_all(tmp_path).rows.select("id", "text").rows() == [("a.json:1", "one")]


def test_an_element_that_is_no_object_is_rejected_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"text": "one"}, 7, {"text": "caf\xe9"}, {"text": NaN}, {"text": "five"}]')
    block = read_all(tmp_path)
    assert block.rows.select("row", "text").rows() == [(1, "one"), (5, "five")]
    assert block.rejects.select("row", "reason").sort("row").rows() == [
        (2, "broken_row"), (3, "invalid_utf8"), (4, "null_text"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "num_rows", "said"),
    [
        ('[{"text": "one"}, {"text": "two"}, {"te', 2, "is cut off after record 2"),
        ('[{"text": "one"}, {"text": "two"}', 2, "is cut off after record 2"),
        ('[{"text": "one"}, {"text": "two"},', 2, "is cut off after record 2"),
        ('[{"text": "one"}, {"text": "two}]', 1, "is cut off after record 1"),
        ('[{"text": "one"}}, {"text": "two"}]', 1, "is broken after record 1"),
        ('[{"text": "one"}] [{"text": "two"}]', 1, "does not end correctly after its last record, number 1"),
        ('{"rows": [{"text": "one"}], "n": ', 1, "does not end correctly after its last record, number 1"),
        ("[", 0, "is cut off after record 0"),
    ],
)
def test_a_document_that_breaks_off_gives_the_rows_before(
    tmp_path: Path, content: str, num_rows: int, said: str
) -> None:
    (tmp_path / "a.json").write_text(content)
    (item,) = list_objects(str(tmp_path))
    texts: list[str] = []
    with pytest.raises(CutOffError, match=said):  # noqa: PT012
        for block in read_span(Span(object=item), SourceSettings(), ReadSettings(), {}):
            texts += block.rows["text"].to_list()
    assert texts == ["one", "two"][:num_rows]


def test_the_error_names_the_place_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("text\nhello\n")
    with pytest.raises(BrokenObjectError, match="which is not a JSON array or object"):
        read_all(tmp_path, kept_schema={})


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.text(st.sampled_from('ab"\\[]{},:\n\u00e9'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('k"\\,'), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.fixed_dictionaries({"text": st.text(max_size=12), "n": VALUE}), min_size=1, max_size=20),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
def test_an_array_is_cut_as_a_parser_would(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, object]], indent: int | None, ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("json")
    (folder / "a.json").write_text(json.dumps(records * 20, indent=indent, ensure_ascii=ascii_only), "utf-8")
    (folder / "a.jsonl").write_text(
        "\n".join(json.dumps(record, ensure_ascii=ascii_only) for record in records * 20), "utf-8"
    )
    source, read = SourceSettings(keep_columns=("n",)), ReadSettings(block_bytes=1_024)
    results = [
        read_all(folder / f"a.{ending}", source, read, kept_schema={"n": pl.String()}) for ending in ("json", "jsonl")
    ]
    assert results[0].rows.select("row", "text", "kept:n").equals(results[1].rows.select("row", "text", "kept:n"))
