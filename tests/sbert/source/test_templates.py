"""Text from several places: columns and nested fields, with empty parts left out together with their punctuation."""

import json
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError
from sbert.source.settings import SourceSettings
from sbert.source.templates import parts_of, put_together
from tests.support.reading import read_all


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{a}. {b}", {"a": "Title", "b": "Body"}, "Title. Body"),
        ("{a}. {b}", {"a": None, "b": "Body"}, "Body"),
        ("{a}. {b}", {"a": "Title", "b": "  "}, "Title"),
        ("{a}. {b}", {"a": "", "b": None}, None),
        ("{a}. {b}: {c}", {"a": "A", "b": "", "c": "C"}, "A. C"),
        ("{a} ({b}) - {c}", {"a": "A", "b": None, "c": "C"}, "A C"),
        ("{a} ({b}) - {c}", {"a": "A", "b": "1999", "c": ""}, "A (1999)"),
        ("{a} ({b}) - {c}", {"a": "", "b": "1999", "c": "C"}, "(1999) - C"),
        ("Title: {a}\nBody: {b}", {"a": None, "b": "x"}, "Body: x"),
        ("Title: {a}\nBody: {b}", {"a": "x", "b": None}, "Title: x"),
        ("{a}, by {b}.", {"a": "A", "b": "B"}, "A, by B."),
        ("{a}, by {b}.", {"a": "A", "b": None}, "A"),
        ("{{{a}}}", {"a": "A"}, "{A}"),
    ],
)
def test_empty_parts_are_left_out_with_their_punctuation(
    template: str, values: dict[str, str | None], expected: str | None
) -> None:
    frame = pl.DataFrame({name: [value] for name, value in values.items()}, schema=dict.fromkeys(values, pl.String()))
    assert put_together("a.csv", template, frame).to_list() == [expected]


def test_a_name_without_braces_is_a_column() -> None:
    assert parts_of("text") == ()
    assert parts_of("{") == ()


ROWS = [
    {"k": "a", "lang": "de", "title": "Title", "doc": {"summary": "Summary", "n": 1}},
    {"k": "b", "lang": None, "title": None, "doc": {"summary": "only this", "n": 2}},
    {"k": "c", "lang": "en", "title": "", "doc": {"summary": None, "n": 3}},
]
SOURCE = SourceSettings(text_column="{title}. {doc.summary}", id_column="{lang}/{k}", keep_columns=("lang", "doc"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv"])
def test_templates_work_in_every_format_with_columns(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pl.DataFrame(ROWS).write_parquet(tmp_path / name)
    elif name.endswith(".csv"):
        nested = [{**row, "doc": json.dumps(row["doc"])} for row in ROWS]
        pl.DataFrame(nested).write_csv(tmp_path / name)
    else:
        lines = [json.dumps(row) for row in ROWS]
        (tmp_path / name).write_text("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]")
    block = read_all(tmp_path, SOURCE)
    assert block.rows.select("row", "id", "text").rows() == [(1, "de/a", "Title. Summary"), (2, "b", "only this")]
    assert block.rejects.select("row", "reason", "detail").rows() == [
        (3, "null_text", "all parts of '{title}. {doc.summary}' are empty")
    ]
    assert block.rows["kept:lang"][0] == "de"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{titel}. {body}", r"no column 'titel', the columns are: 'title', 'body' \(nearest: 'title'\)"),
        ("{title}. {dok.summary}", "no column 'dok', the columns are"),
    ],
)
def test_an_unknown_column_of_a_template_is_named(tmp_path: Path, name: str, template: str, said: str) -> None:
    frame = pl.DataFrame({"title": ["a"], "body": ["b"]})
    if name.endswith("l"):
        frame.write_ndjson(tmp_path / name)
    else:
        (frame.write_csv if name.endswith("csv") else frame.write_parquet)(tmp_path / name)
    with pytest.raises(ColumnError, match=said):
        read_all(tmp_path, SourceSettings(text_column=template))
