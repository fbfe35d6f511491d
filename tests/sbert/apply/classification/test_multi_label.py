"""Tasks whose texts can have several classes: from labels to lists of classes for every row."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from sbert.apply.classification import heads
from sbert.apply.classification.multi_label_quality import MultiLabelQuality
from sbert.apply.classification.quality import HeadQuality
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSettings
from sbert.apply.monitoring.run import monitor
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.errors import LabelError
from sbert.suggest.predictions import gives_lists, load_predictions
from sbert.table.delta import Table
from tests.support.made_tables import make_version, unit_vector

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=3, promised_error=0.02)
SETTINGS = ClassificationSettings(head=QUICK)
CLASSES = ("up", "warm")


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each labelled text the vector of the number at its end; the made tables have no encoder."""

    def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)

    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)


def classes_of(number: int) -> list[str]:
    return [name for name, value in zip(CLASSES, unit_vector(number), strict=False) if value > 0]


def label_rows(numbers: range, truth: Callable[[int], list[str]] = classes_of) -> list[dict[str, object]]:
    return [
        {
            "text": f"{hashlib.sha256(str(number).encode()).hexdigest()} {number}",
            "labels": truth(number),
            "sign": "up" if unit_vector(number)[0] > 0 else "down",
            "region": "north" if number % 3 else "south",
            "split": "test" if number % 4 == 0 else "train",
        }
        for number in numbers
    ]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path.parent)


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    """A table, labels with lists, and the place of the output."""
    table = str(tmp_path / "table")
    make_version(table, {"a": {str(n): n for n in range(1_000, 1_080)}, "b": {str(n): n for n in range(2_000, 2_040)}})
    return table, write(tmp_path / "labels/labels.jsonl", label_rows(range(480))), str(tmp_path / "out")


def run(places: tuple[str, str, str], settings: ClassificationSettings = SETTINGS) -> ClassificationReport:
    return classify(*places, settings)


def output(out: str) -> pl.DataFrame:
    frame = DerivedTable.open(out).scan().sort("source", "id").collect()
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_every_row_has_a_list_of_classes_and_a_night_costs_what_changed(places: tuple[str, str, str]) -> None:
    report = run(places)
    rows = output(places[2])
    assert rows.columns[3:] == ["labels", "probabilities", "probability", "possible", "abstained"]
    truth = [sorted(classes_of(int(number))) for number in rows["id"]]
    named = [sorted(names) for names in rows["labels"]]
    assert np.mean([ours == true for ours, true in zip(named, truth, strict=True)]) > 0.85
    for labels, probabilities, possible in rows.select("labels", "probabilities", "possible").iter_rows():
        assert len(labels) == len(probabilities)
        assert probabilities == sorted(probabilities, reverse=True)
        assert set(labels) <= set(possible) <= set(CLASSES)
    sure = rows.filter(~pl.col("abstained"))["probability"].min()
    unsure = rows.filter("abstained")["probability"].max()
    assert isinstance(sure, float)
    assert isinstance(unsure, float)
    assert sure > unsure
    task = report.tasks[0]
    assert task.head.is_multi_label
    assert task.now.num_rows == 120
    assert task.now.num_abstained == rows["abstained"].sum()
    assert task.now.num_without_class == (rows["labels"].list.len() == 0).sum()
    assert task.now.classes == {name: sum(name in names for names in named) for name in task.now.classes}
    quality = task.head.quality
    assert isinstance(quality, MultiLabelQuality)
    assert quality.num_rows == 120
    page = Path(report.report_uri).read_text()
    for expected in ("rows whose whole list is right", "micro-F1", "true classes that are possible", "got no class",
                     "Reliability", "probability of the list"):  # fmt: skip
        assert expected in page
    assert "Confusion" not in page
    assert not verify_any(places[2]).findings
    again = run(places)
    assert again.output.version == report.output.version
    assert again.output.num_rows_built == 0
    assert again.tasks[0].head.reason == "labels, encoder and settings did not change"
    assert ClassificationReport.model_validate_json(report.model_dump_json()) == report


def test_a_head_that_is_worse_is_refused(places: tuple[str, str, str], tmp_path: Path) -> None:
    first = run(places)
    before = output(places[2])
    wrong = label_rows(
        range(481, 1_300, 2), lambda number: [name for name in CLASSES if name not in classes_of(number)]
    )
    write(tmp_path / "labels/mistaken.jsonl", wrong)
    head = run(places).tasks[0].head
    assert head.refused is not None
    assert head.fingerprint == first.tasks[0].head.fingerprint
    assert "macro-F1 drops by" in head.reason
    assert output(places[2]).equals(before)
    write(tmp_path / "labels/mistaken.jsonl", label_rows(range(481, 900, 2)))
    accepted = run(places).tasks[0].head
    assert accepted.is_new
    assert accepted.reason.startswith("macro-F1 ")


def test_lists_and_single_classes_stand_side_by_side(places: tuple[str, str, str]) -> None:
    settings = SETTINGS.model_copy(update={"label_columns": ("sign", "labels"), "group_columns": ("region",)})
    report = run(places, settings)
    rows = output(places[2])
    assert rows.columns[3:] == [
        *(f"sign_{name}" for name in ("label", "probability", "labels", "abstained")),
        *(f"labels_{name}" for name in ("labels", "probabilities", "probability", "possible", "abstained")),
    ]
    assert [task.head.is_multi_label for task in report.tasks] == [False, True]
    assert isinstance(report.tasks[0].head.quality, HeadQuality)
    quality = report.tasks[1].head.quality
    assert isinstance(quality, MultiLabelQuality)
    assert [group.value for group in quality.groups] == ["north", "south"]
    alone = classify(places[0], places[1], f"{places[2]}2", settings.model_copy(update={"label_columns": ("sign",)}))
    assert alone.tasks[0].head.fingerprint == report.tasks[0].head.fingerprint  # lists beside it change nothing
    assert "is_multi_label" not in DerivedTable.open(alone.output.out_uri).info.settings["heads"][0]


def test_rows_of_one_class_are_joined_where_the_settings_name_the_task(
    places: tuple[str, str, str], tmp_path: Path
) -> None:
    rows = [
        {"text": row["text"], "tag": name, "split": row["split"]}
        for row in label_rows(range(480))
        for name in row["labels"]  # type: ignore[attr-defined]
    ]
    labels = write(tmp_path / "rows/rows.jsonl", rows)
    single = SETTINGS.model_copy(update={"label_columns": ("tag",)})
    with pytest.raises(LabelError, match="contradict another row of the same texts"):
        run((places[0], labels, places[2]), single)
    report = run((places[0], labels, places[2]), ClassificationSettings(head=QUICK, multi_label_columns=("tag",)))
    assert report.tasks[0].head.is_multi_label
    assert "joined with another row of the same text" in report.tasks[0].head.labels
    assert output(places[2]).columns[3] == "labels"


def test_a_task_whose_kind_changes_gets_a_head_of_its_own(places: tuple[str, str, str]) -> None:
    single = SETTINGS.model_copy(update={"labels": SETTINGS.labels.model_copy(update={"columns": {"label": "sign"}})})
    run(places, single)
    several = run(places, SETTINGS).tasks[0]
    assert several.head.is_new
    assert several.head.reason == "a row can have several classes now, which the head before cannot give"
    back = run(places, single).tasks[0].head
    assert back.reason == "a row has one class now, which the head before cannot give"


def test_rules_speak_for_classes_of_lists(places: tuple[str, str, str], tmp_path: Path) -> None:
    rows = [
        {
            **row,
            "text": f"kind {number % 3} {row['text']}",
            "labels": [*classes_of(number), *(["zero"] if number % 3 == 0 else [])],
        }
        for number, row in enumerate(label_rows(range(480)))
    ]
    labels = write(tmp_path / "ruled/labels.jsonl", rows)
    rules = tmp_path / "rules.jsonl"
    rules.write_text(json.dumps({"class": "zero", "terms": ["kind 0"]}) + "\n")
    settings = ClassificationSettings(
        head=QUICK.model_copy(update={"words": False}), rules_uri=str(rules), text_column="kind"
    )
    report = run((places[0], labels, places[2]), settings)
    effect = report.tasks[0].head.rules
    assert effect is not None
    assert effect.num_weak_rows == 0  # a silent rule does not say that a class is absent
    assert effect.coefficients[0].coefficient > 2
    assert effect.gain is not None
    assert effect.gain.low > 0.1
    rows_out = output(places[2])
    assert report.tasks[0].now.num_by_rules == rows_out["by_rules"].sum() > 0
    changed = rows_out.filter("by_rules")
    assert all(
        ("zero" in names) == (int(number) % 3 == 0) for names, number in changed.select("labels", "id").iter_rows()
    )


def test_suggestions_read_the_doubt_of_whole_lists(places: tuple[str, str, str]) -> None:
    run(places)
    derived, table = DerivedTable.open(places[2]), Table.open(places[0])
    assert gives_lists(derived)
    pool = table.scan().select("source", "id", "text_hash").collect()
    assert isinstance(pool, pl.DataFrame)
    read = load_predictions(derived, table, pool)
    assert read.is_multi_label
    joined = pool.join(output(places[2]), on=["source", "id"], maintain_order="left")
    np.testing.assert_allclose(read.doubt_N, 1 - joined["probability"].cast(pl.Float64).to_numpy())
    assert read.abstained_N.sum() == joined["abstained"].sum()


def test_monitoring_counts_each_class_of_the_lists(places: tuple[str, str, str], tmp_path: Path) -> None:
    run(places)
    report = monitor(places[2], str(tmp_path / "opinion"), MonitoringSettings(time_column="at", bucket="1h"))
    cells = DerivedTable.open(str(tmp_path / "opinion")).scan().collect()
    assert isinstance(cells, pl.DataFrame)
    counts = dict(cells.group_by("series").agg(pl.col("count").sum()).iter_rows())
    lists = output(places[2]).join(
        Table.open(places[0]).scan().select("id", "at").collect(), on="id"
    ).drop_nulls("at")["labels"]  # fmt: skip
    assert counts.pop("volume") == len(lists) == report.num_rows - report.num_without_time
    assert counts == {name: sum(name in row for row in lists.to_list()) for name in CLASSES}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**row, "labels": []} for row in label_rows(range(60))], "have an empty list of classes"),
        ([{**row, "labels": ["rare"] if at == 1 else row["labels"]} for at, row in enumerate(label_rows(range(60)))],
         "1 of 3 classes have one row, such as 'rare'"),
        ([{**row, "labels": "up" if at == 1 else row["labels"]} for at, row in enumerate(label_rows(range(60)))],
         "holds both lists and single classes"),
        ([{**row, "labels": {"up": 1}} for row in label_rows(range(60))], "expected the names of classes"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_leave_the_output_as_it_was(
    places: tuple[str, str, str], tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    labels = write(tmp_path / "bad/labels.jsonl", rows)
    with pytest.raises(LabelError, match=message):
        run((places[0], labels, places[2]))
    assert not Path(places[2]).exists()


def test_a_name_that_is_no_task_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"multi_label_columns names tags, the tasks \(label_columns\) are mood"):
        ClassificationSettings(label_columns=("mood",), multi_label_columns=("tags",))
