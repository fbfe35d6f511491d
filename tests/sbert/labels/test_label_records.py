"""Values and records of label files: types, spellings, and those that cannot be read."""

from pathlib import Path

import polars as pl
import pytest

from sbert.errors import (
    BrokenObjectError,
    LabelError,
)
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels, make_label_set
from tests.sbert.labels.small_labels import ALL, TWENTY


@pytest.mark.parametrize(
    ("values", "ending", "held"),
    [
        ([["a", "b"]] * 9, "jsonl", r"a JSON array"),
        ([{"de": "a"}] * 9, "jsonl", r"a JSON object"),
        ([["a"]] * 9, "parquet", r"List\(String\)"),
    ],
)
def test_columns_without_texts_are_refused(values: list[object], ending: str, held: str, tmp_path: Path) -> None:
    rows = pl.DataFrame({"text": values, "label": ["a"] * 9})
    path = tmp_path / f"labels.{ending}"
    rows.write_ndjson(path) if ending == "jsonl" else rows.write_parquet(path)
    with pytest.raises(LabelError, match=rf"{path}: (row 1: )?column 'text' holds {held}.*: write each value as text"):
        load_labels(str(path))
    with pytest.raises(LabelError, match=r"column 'text' holds (List|Struct)\("):
        make_label_set(rows, LabelKind.CLASSES)


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path: Path) -> None:
    rows = pl.DataFrame({"text": [b"fine", b"\xff"], "label": ["a", "b"]})
    rows.write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(BrokenObjectError, match=r"labels.parquet: row 2: column 'text' is not UTF-8: save the labels"):
        load_labels(str(tmp_path))
    with pytest.raises(LabelError, match="column 'text' holds Binary"):
        make_label_set(rows, LabelKind.CLASSES)


def test_a_broken_last_line_is_named_with_its_number(tmp_path: Path) -> None:
    Path(tmp_path, "labels.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": ')
    with pytest.raises(BrokenObjectError, match=r"labels.jsonl: row 2: not JSON: .*: mend the row or remove it"):
        load_labels(str(tmp_path))
    Path(tmp_path, "labels.jsonl").write_bytes(b'\n{"text": "\xff", "label": "b"}\n')
    with pytest.raises(BrokenObjectError, match="row 2: byte 10 of the line is not UTF-8: save the labels as UTF-8"):
        load_labels(str(tmp_path))


def test_a_broken_only_line_is_named_with_its_number(tmp_path: Path) -> None:
    Path(tmp_path, "labels.jsonl").write_text("{broken")
    with pytest.raises(BrokenObjectError, match=r"labels.jsonl: row 1: not JSON"):
        load_labels(str(tmp_path))


def test_a_csv_record_with_a_field_too_many_is_named_with_its_number(tmp_path: Path) -> None:
    Path(tmp_path, "labels.csv").write_text("text,label\nfine,a\none, two,a\n")
    with pytest.raises(BrokenObjectError, match=r"labels.csv: row 2: 3 fields, the header has 2"):
        load_labels(str(tmp_path))


def test_a_quote_inside_a_value_is_read_as_raw_text_reads_it(tmp_path: Path) -> None:
    lines = [f"{text},{label}" for text, label in zip(TWENTY, "ab" * 10, strict=True)]
    Path(tmp_path, "labels.csv").write_text("\n".join(["text,label", *lines, 'tv 5" red,a']))
    labels = load_labels(str(tmp_path), ALL)
    assert 'tv 5" red' in labels.train["text"].to_list()
    assert labels.num_rejected == {}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 1], [0.0, 1.0], ["0", "1"]),
        ([2, 10], [2.0, 10.0], ["10", "2"]),
        ([True, False], ["True", "False"], ["false", "true"]),
        (["1.50", "2"], [1.5, 2.0], ["1.5", "2"]),
        (["01", "1"], ["01", "1"], ["01", "1"]),  # a code is no number
    ],
)
@pytest.mark.parametrize("endings", [("jsonl", "parquet"), ("csv", "parquet"), ("parquet", "csv"), ("jsonl", "csv")])
def test_equal_labels_of_different_types_are_one_class(
    first: list[object], second: list[object], expected: list[str], endings: tuple[str, str], tmp_path: Path
) -> None:
    for name, values, texts in (("a", first, TWENTY[:10]), ("b", second, TWENTY[10:])):
        rows = pl.DataFrame({"text": texts, "label": values * 5}, strict=False)
        path = tmp_path / f"{name}.{endings[name == 'b']}"
        {".jsonl": rows.write_ndjson, ".csv": rows.write_csv, ".parquet": rows.write_parquet}[path.suffix](path)
    assert load_labels(str(tmp_path), ALL).classes == expected


def test_numbers_of_nli_labels_may_be_floats(tmp_path: Path) -> None:
    rows = pl.DataFrame({"premise": TWENTY, "hypothesis": TWENTY[::-1], "label": [0.0, 1.0] * 10})
    rows.write_parquet(tmp_path / "labels.parquet")
    labels = load_labels(str(tmp_path), ALL)
    assert set(labels.train["label"]) == {"entailment", "neutral"}


def test_values_to_slice_by_have_one_spelling(tmp_path: Path) -> None:
    for name, year, texts in (("a.jsonl", 2025, TWENTY[:10]), ("b.jsonl", "2025.0", TWENTY[10:])):
        pl.DataFrame({"text": texts, "label": list("ab" * 5), "year": [year] * 10}).write_ndjson(tmp_path / name)
    labels = load_labels(str(tmp_path), ALL.model_copy(update={"keep_columns": ("year",)}))
    assert set(labels.train["year"]) == {"2025"}


def test_a_label_that_is_not_a_number_in_json_is_missing(tmp_path: Path) -> None:
    lines = [f'{{"text": "{text}", "label": {number % 2}}}' for number, text in enumerate(TWENTY)]
    Path(tmp_path, "labels.jsonl").write_text("\n".join([*lines, '{"text": "odd", "label": NaN}']))
    labels = load_labels(str(tmp_path), ALL)
    assert labels.num_rejected == {"no_label": 1}
    assert labels.classes == ["0", "1"]
