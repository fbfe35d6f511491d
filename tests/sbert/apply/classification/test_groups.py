"""Errors and abstentions by columns of the labels and of the table, and the count of labelled texts in the table."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from sbert.apply import text_rows
from sbert.apply.classification import groups as group_module
from sbert.apply.classification import heads, labelled_texts
from sbert.apply.classification.groups import ColumnAbstentions
from sbert.apply.classification.quality import measure_groups, share
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError
from sbert.table.delta import Table
from tests.sbert.apply.classification.made_labels import QUICK, rows, write_labels
from tests.support.made_tables import kept_value, make_version, unit_vector

SETTINGS = ClassificationSettings(head=QUICK)


def with_groups(*columns: str, **others: Any) -> ClassificationSettings:
    return SETTINGS.model_copy(update={"group_columns": columns, **others})


@pytest.fixture(autouse=True)
def made_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give texts the vectors and hashes that the made tables give to the numbers at their ends."""

    def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)

    def hashes(texts: pl.Series) -> pl.Series:
        return pl.Series("text_hash", [int(text.split()[-1]).to_bytes(16, "big") for text in texts], pl.Binary)

    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)
    monkeypatch.setattr(text_rows, "hash_texts", hashes)


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    """A table with the texts 0 to 299 in two objects, labels of the texts 0 to 399, and a place for the output."""
    table = str(tmp_path / "table")
    make_version(table, {"a.jsonl": rows(0, 200), "b.jsonl": rows(200, 100)})
    return table, write_labels(tmp_path / "labels", range(400)), str(tmp_path / "out")


def held_out(numbers: range) -> list[int]:
    return [number for number in numbers if number % 4 == 0]


def counts(report: ClassificationReport, column: str) -> dict[str, int]:
    quality = report.tasks[0].head.quality
    assert quality is not None
    return {group.value: group.num_rows for group in quality.groups if group.column == column}


def page_of(report: ClassificationReport) -> str:
    return Path(report.report_uri).read_text()


def test_a_column_that_the_labels_lack_is_taken_from_the_table(places: tuple[str, str, str]) -> None:
    report = classify(*places, with_groups("region", "kind", "source"))
    in_table = held_out(range(300))
    assert counts(report, "kind") == Counter(kept_value("kind", number) or "" for number in in_table)
    assert counts(report, "source") == {"a.jsonl": 50, "b.jsonl": 25}
    assert counts(report, "region") == {"south": 100}  # of the labels: all held-out rows
    page = page_of(report)
    assert "25 of 100 held-out rows have no group by kind, since their texts are not in the table." in page
    assert "no group by region" not in page
    assert "kind: no value" in page
    assert "source = b.jsonl" in page


def test_abstentions_are_counted_on_all_rows_of_the_table(tmp_path: Path, places: tuple[str, str, str]) -> None:
    file = tmp_path / "labels/labels.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for number, line in enumerate(lines):
        if abs(unit_vector(number)[0]) < 0.3 and number % 3 == 0:  # unsure ones, on which the head then abstains
            line["label"] = {"up": "down", "down": "up"}[line["label"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = with_groups("kind", "region", "source", "flag", label_columns=("label", "tone"))
    report = classify(*places, settings)
    out, table = DerivedTable.open(report.output.out_uri), Table.open(places[0])
    both = out.scan().join(table.scan().drop("text_hash"), on=["source", "id"]).collect()
    assert isinstance(both, pl.DataFrame)
    assert both.height == 300
    assert 0 < both["label_abstained"].sum() < 300
    for task in report.tasks:
        assert [of.column for of in task.groups] == ["kind", "source", "flag"]
        for of in task.groups:
            shown = [(group.value, group.num_rows, group.abstained) for group in of.groups]
            values = pl.col(of.column).cast(pl.String).fill_null("")
            flag = pl.col(f"{task.head.task}_abstained").sum().alias("abstained")
            expected = both.group_by(values.alias("value")).agg(pl.len(), flag)
            assert of.num_groups == expected.height
            assert {value: (num_rows, abstained) for value, num_rows, abstained in shown} == {
                value: (num_rows, share(num_abstained, num_rows))
                for value, num_rows, num_abstained in expected.iter_rows()
            }
            assert [num_rows for _, num_rows, _ in shown] == sorted(expected["len"], reverse=True)
    assert report.tasks[0].groups != report.tasks[1].groups
    assert "label: All rows by group" in page_of(report)
    by_region = classify(*places, with_groups("region", label_columns=("label", "tone")))
    assert by_region.tasks[0].groups == []
    assert "All rows by group" not in page_of(by_region)


def test_the_largest_groups_are_shown_and_the_others_counted(
    places: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "MAX_GROUPS", 2)
    monkeypatch.setattr(group_module, "MAX_PARTS", 0)  # counts are added up after each block
    [of_kind] = classify(*places, with_groups("kind")).tasks[0].groups
    assert isinstance(of_kind, ColumnAbstentions)
    assert of_kind.num_groups == 4
    assert [group.num_rows for group in of_kind.groups] == [80, 80]
    report = classify(*places, with_groups("kind"))
    assert "The column kind has 4 values; the 2 largest are shown." in page_of(report)


def test_columns_of_the_labels_come_first_and_groups_name_no_other_head(
    tmp_path: Path, places: tuple[str, str, str]
) -> None:
    plain = classify(*places, SETTINGS)
    grouped = classify(*places, with_groups("kind"))
    assert grouped.tasks[0].head.fingerprint == plain.tasks[0].head.fingerprint
    assert grouped.output.version == plain.output.version
    assert grouped.output.num_rows_built == 0
    file = tmp_path / "labels/labels.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(json.dumps(line | {"kind": "mine" if at else None}) + "\n" for at, line in enumerate(lines))
    )
    own = classify(*places, with_groups("kind"))
    assert counts(own, "kind") == {"": 1, "mine": 99}
    assert own.tasks[0].groups[0].groups == grouped.tasks[0].groups[0].groups  # on all rows the table alone knows
    assert own.tasks[0].head.fingerprint == plain.tasks[0].head.fingerprint


def test_a_column_that_neither_has_is_an_error_with_the_columns_of_both(places: tuple[str, str, str]) -> None:
    with pytest.raises(ColumnError) as refused:
        classify(*places, with_groups("region", "airline"))
    told = str(refused.value)
    assert "no column 'airline' (group_columns)" in told
    assert f"of the labels {places[1]} the columns are: 'text', 'label', 'tone', 'region', 'split'" in told
    assert f"of the table {places[0]} the columns are: 'source', 'kind', 'price'" in told
    assert "`sbert refresh --keep-columns kind,price,count,flag,day,at,cost,tags,raw,airline`" in told
    assert "keep_columns" not in told
    with pytest.raises(ColumnError, match=r"'tags' \(group_columns\) holds List\(String\), not one value a row"):
        classify(*places, with_groups("tags"))
    assert not Path(places[2]).exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["region", "label"], "names 'label', which is the text or the class itself"),
        (["object"], "names 'object', a name that the labels use themselves: give the column another name"),
        (["region", "split"], "names 'split', a name that the labels use themselves"),
        (["a", "b", "a"], "twice: a, b, a"),
    ],
)
def test_columns_that_make_no_groups_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClassificationSettings(group_columns=tuple(columns))


def test_a_group_of_the_table_that_is_surely_worse_refuses_a_head(tmp_path: Path, places: tuple[str, str, str]) -> None:
    fair = with_groups("flag", max_group_gap=0.1, tolerance=1.0)
    first = classify(*places, fair)
    assert set(counts(first, "flag")) == {"true", "false", ""}
    file = tmp_path / "labels/labels.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    other = {"up": "down", "down": "up"}
    for number, line in enumerate(lines):
        if number % 4 == 0 and number % 3 == 0:  # held-out rows whose flag is true
            line["label"] = other[line["label"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))  # one row fewer: another head
    refused = classify(*places, fair).tasks[0].head
    assert refused.refused is not None
    assert refused.fingerprint == first.tasks[0].head.fingerprint
    assert "flag = 'true' is higher than that of the other rows" in refused.reason
    accepted = classify(*places, with_groups("flag", max_group_gap=None, tolerance=1.0)).tasks[0].head
    assert accepted.is_new


def test_groups_follow_the_table_and_cost_no_vectors_where_they_stay(
    places: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = classify(*places, with_groups("source"))
    looked_up = look_ups(monkeypatch, "vectors_of_texts")
    make_version(places[0], {"a.jsonl": rows(0, 200), "b.jsonl": rows(200, 100), "c.jsonl": rows(1_000, 9)})
    again = classify(*places, with_groups("source"))
    assert again.tasks[0].head.quality == first.tasks[0].head.quality
    assert not looked_up
    assert [group.num_rows for group in again.tasks[0].groups[0].groups] == [200, 100, 9]
    make_version(places[0], {"a.jsonl": rows(0, 200), "b.jsonl": rows(200, 100), "c.jsonl": rows(300, 100)})
    assert counts(classify(*places, with_groups("source")), "source") == {"a.jsonl": 50, "b.jsonl": 25, "c.jsonl": 25}
    assert looked_up == [100]


def test_rows_of_no_group_are_no_part_of_a_comparison() -> None:
    right = np.array([True, True, False, False, False, True])
    values: Sequence[str | None] = ["a", "a", "a", "b", None, None]
    first, second = measure_groups({"shop": values}, right, np.array([True, False, True, True, True, True]))
    assert (first.value, first.num_rows, second.value, second.num_rows) == ("a", 3, "b", 1)
    assert first.error == share(1, 3)
    assert first.abstained == share(1, 3)
    assert first.gap.value == pytest.approx(1 / 3 - 1)  # b alone is compared with, not the rows without a group
    assert measure_groups({"shop": [None] * 6}, right, right) == []


def test_labelled_texts_in_the_table_are_counted_once_a_head(
    tmp_path: Path, places: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = look_ups(monkeypatch, "rows_of_texts", labelled_texts)
    tasks = SETTINGS.model_copy(update={"label_columns": ("label", "tone")})
    report = classify(*places, tasks)
    assert looked_up == [400]  # once for both tasks
    in_table = report.tasks[1].head.in_table
    assert in_table is not None
    assert (in_table.num_texts, in_table.num_found, in_table.table_version) == (400, 300, 0)
    assert in_table.told() == "300 of 400 labelled texts are in version 0 of the table"
    assert report.tasks[0].head.warning == ""
    assert page_of(report).count("300 of 400 labelled texts are in version 0 of the table.") == 2
    make_version(places[0], {"a.jsonl": rows(0, 200), "b.jsonl": rows(200, 110)})
    again = classify(*places, tasks).tasks[0].head.in_table
    assert again == in_table  # counted in version 0, as it says
    assert looked_up == [400]
    write_labels(tmp_path / "labels", range(400, 410), name="more.jsonl")
    more = classify(*places, tasks).tasks[0].head.in_table
    assert more is not None
    assert (more.num_texts, more.num_found, more.table_version) == (410, 310, 1)


def test_measures_of_an_earlier_release_are_kept_and_get_the_count(
    places: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = classify(*places, SETTINGS).tasks[0].head
    file = Path(places[2], "_reports/measures.json")
    kept = json.loads(file.read_text())
    assert kept["measures"].pop("in_table")["num_found"] == 300
    file.write_text(json.dumps(kept))
    vectors = look_ups(monkeypatch, "vectors_of_texts")
    again = classify(*places, SETTINGS).tasks[0].head
    assert (again.quality, again.in_table) == (first.quality, first.in_table)
    assert not vectors
    assert json.loads(file.read_text())["measures"]["in_table"]["num_found"] == 300


def test_labels_of_another_table_are_a_warning_that_names_both_places(
    tmp_path: Path, places: tuple[str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    strange = write_labels(tmp_path / "strange", range(1_000, 1_200))
    tasks = SETTINGS.model_copy(update={"label_columns": ("label", "tone")})
    with caplog.at_level(logging.WARNING):
        report = classify(places[0], strange, places[2], tasks)
    warning = (
        f"None of 200 labelled texts of {strange} is in the table {places[0]}: if they should be, name the labels of this "
        "table"
    )
    assert [task.head.warning for task in report.tasks] == [warning, warning]
    assert [record.getMessage() for record in caplog.records].count(warning) == 1
    assert page_of(report).count(warning) == 1
    assert '<div class="verdict good">' not in page_of(report)
    make_version(places[0], {"a.jsonl": rows(0, 200), "b.jsonl": rows(1_150, 100)})
    head = classify(places[0], strange, places[2], tasks).tasks[0].head
    assert head.warning == ""  # the table has some now
    assert head.in_table is not None
    assert head.in_table.num_found == 50


def look_ups(monkeypatch: pytest.MonkeyPatch, name: str, module: Any = heads) -> list[int]:
    """Return a list that gets the number of texts of each look-up."""
    counted: list[int] = []
    look_up = getattr(module, name)

    def count(table: Table, texts: Sequence[str], *others: Any) -> Any:
        counted.append(len(texts))
        return look_up(table, texts, *others)

    monkeypatch.setattr(module, name, count)
    return counted
