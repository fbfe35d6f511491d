"""The classes of a table follow its rows and its labels, at the cost of what changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification import heads
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.run import derive
from sbert.errors import LabelError, SettingsError, TableError
from sbert.table.delta import Table
from tests.sbert.apply.classification.made_labels import (
    QUICK,
    SETTINGS,
    give_vectors,
    output,
    rows,
    run,
    sign_of,
    text_of,
    write_labels,
)
from tests.support.earlier_records import record_settings
from tests.support.made_tables import make_version, unit_vector


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the labelled texts."""
    give_vectors(monkeypatch)


def test_every_row_has_its_class_and_a_night_costs_what_changed(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 50), "b": rows(2_000, 50)})
    labels = write_labels(tmp_path / "labels", range(400))
    first = run(table, labels, out)
    classified = output(out)
    truth = [sign_of(int(number)) for number in classified["id"]]
    assert (classified["label"] == pl.Series(truth)).mean() > 0.9
    assert classified.columns == ["source", "id", "text_hash", "label", "probability", "labels", "abstained"]
    assert all(label in labels for label, labels in classified.select("label", "labels").iter_rows())
    assert classified["probability"].is_between(0.5, 1).all()
    task = first.tasks[0]
    assert task.head.reason == "the first head"
    assert task.now.classes == dict(classified.group_by("label").len().sort("len", descending=True).iter_rows())
    assert task.now.num_abstained == classified["abstained"].sum()
    assert task.head.quality is not None
    assert task.head.quality.num_rows == 100
    again = run(table, labels, out)
    assert again.output.num_rows_built == 0
    assert again.output.version == first.output.version
    assert not again.tasks[0].head.is_new
    make_version(table, {"a": rows(1_000, 50), "b": rows(2_000, 50), "c": rows(3_000, 7)})
    assert run(table, labels, out).output.num_rows_built == 7
    page = Path(first.report_uri).read_text()
    for expected in ("Reliability", "Coverage against error", "Confusion", "Most surely wrong", "macro-F1"):
        assert expected in page


def test_a_night_without_new_labels_tells_the_same_measures_and_looks_no_vectors_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 50)})
    settings = ClassificationSettings(head=QUICK, label_columns=("label", "tone"), group_columns=("region",))
    labels = write_labels(tmp_path / "labels", range(400))
    first = run(table, labels, out, settings)
    looked_up: list[int] = []
    of_texts = heads.vectors_of_texts

    def counted(table: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        looked_up.append(len(texts))
        return of_texts(table, texts)

    monkeypatch.setattr(heads, "vectors_of_texts", counted)
    make_version(table, {"a": rows(1_000, 50), "b": rows(2_000, 9)})
    again = run(table, labels, out, settings)
    assert again.output.num_rows_built == 9
    assert not looked_up
    assert [task.head.quality for task in again.tasks] == [task.head.quality for task in first.tasks]
    assert again.tasks[0].head.quality != again.tasks[1].head.quality
    ungrouped = run(table, labels, out, settings.model_copy(update={"group_columns": ()}))
    assert looked_up.pop() == 100  # other measures of the same head and rows
    assert ungrouped.tasks[0].head.quality is not None
    assert not ungrouped.tasks[0].head.quality.groups
    for file in (out / "_reports").glob("measures*.json"):
        file.write_text("damaged")
    assert run(table, labels, out, settings).tasks[0].head.quality == first.tasks[0].head.quality
    assert looked_up.pop() == 100
    write_labels(tmp_path / "labels", range(1_000, 1_040), name="more.jsonl")  # ten more are held out
    more = run(table, labels, out, settings)
    assert looked_up
    assert more.tasks[0].head.quality is not None
    assert more.tasks[0].head.quality.num_rows == 110


def test_an_output_of_an_earlier_release_stays_where_nothing_changed(tmp_path: Path) -> None:
    """Earlier releases named neither the column of words nor that of rules of a head."""
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": rows(0, 60)})
    labels = write_labels(tmp_path / "labels", range(400))
    run(table, labels, Path(out))
    version = record_settings(
        out,
        lambda settings: (
            settings | {"heads": [{key: head[key] for key in ("task", "fingerprint")} for head in settings["heads"]]}
        ),
    )
    report = run(table, labels, Path(out))
    assert report.output.version == version
    assert report.output.num_shards_built == 0


def test_a_head_that_answers_nothing_is_no_good_news_and_the_page_names_the_setting(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 60)})
    strict = ClassificationSettings(head=QUICK.model_copy(update={"promised_error": 0.001}))
    report = run(table, write_labels(tmp_path / "labels", range(100)), out, strict)
    silence = report.tasks[0].silence(0.001)
    assert report.tasks[0].now.num_abstained == 60
    assert "75 labelled rows cannot prove an error of at most 0.1%" in silence
    assert """--settings '{"head": {"promised_error": 0.002}}'""" in silence
    page = Path(report.report_uri).read_text()
    assert '<div class="verdict bad">No row is answered' in page
    assert "These are too few rows for pictures (30 are needed)" in page
    assert "Reliability" not in page
    assert "change since the last run" not in page


def test_several_tasks_stand_side_by_side(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 40)})
    labels = write_labels(tmp_path / "labels", range(300))
    report = run(table, labels, out, SETTINGS.model_copy(update={"label_columns": ("label", "tone")}))
    classified = output(out)
    assert set(classified["label_label"]) <= {"up", "down"}
    assert set(classified["tone_label"]) <= {"warm", "cold"}
    warm = ["warm" if unit_vector(int(number))[1] > 0 else "cold" for number in classified["id"]]
    assert (classified["tone_label"] == pl.Series(warm)).mean() > 0.85
    assert [task.head.task for task in report.tasks] == ["label", "tone"]


def test_a_group_that_is_surely_worse_refuses_a_head(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 20)})
    labels = write_labels(tmp_path / "labels", range(400))
    fair = SETTINGS.model_copy(update={"group_columns": ("region",), "max_group_gap": 0.1, "tolerance": 1.0})
    first = run(table, labels, out, fair)
    assert first.tasks[0].head.quality is not None
    assert [group.value for group in first.tasks[0].head.quality.groups] == ["south"]  # every fourth number is even
    write_labels(tmp_path / "labels", range(401, 1_601, 4), wrong=True, name="odd.jsonl")  # odd: the north
    text = (tmp_path / "labels/odd.jsonl").read_text().replace('"split": "train"', '"split": "test"')
    lines = text.splitlines(keepends=True)
    (tmp_path / "labels/odd.jsonl").write_text("".join(lines[:150]))
    write_labels(tmp_path / "labels", range(1_602, 1_700, 4), name="more.jsonl")
    refused = run(table, labels, out, fair)
    assert refused.tasks[0].head.refused is not None
    assert "region = 'north' is higher than that of the other rows" in refused.tasks[0].head.reason


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([(text_of(number), "a") for number in range(30)], "class"),
        ([(text_of(number), "alone" if number == 7 else "ab"[number % 2]) for number in range(30)], "one row"),
        ([(text_of(number % 15), "ab"[number // 15]) for number in range(30)], "contradict"),
    ],
)
def test_labels_that_cannot_be_learned_leave_the_output_as_it_was(
    tmp_path: Path, labels: list[tuple[str, str]], message: str
) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 20)})
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "labels.jsonl").write_text("".join(json.dumps({"text": t, "label": c}) + "\n" for t, c in labels))
    with pytest.raises(LabelError, match=message):
        run(table, str(folder), out)
    assert not out.exists()


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    make_version(table, {"a": rows(1_000, 20)})
    pairs = SETTINGS.model_copy(update={"labels": SETTINGS.labels.model_copy(update={"kind": "pairs"})})
    with pytest.raises(SettingsError, match="classification learns from labels of the kind classes"):
        run(table, str(tmp_path), tmp_path / "out", pairs)


def test_nothing_is_written_into_the_output_of_another_job(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 20)})
    derive(NeighboursJob(k=2), table, str(out))
    before = sorted(out.rglob("*"))
    with pytest.raises(TableError, match="belongs to the job neighbours, not to classification"):
        run(table, write_labels(tmp_path / "labels", range(100)), out)
    assert sorted(out.rglob("*")) == before


def test_a_head_that_is_gone_is_named(tmp_path: Path) -> None:
    from sbert.apply.classification.head import HEADS

    table = make_version(str(tmp_path / "table"), {"a": rows(1_000, 5)})
    with pytest.raises(TableError, match=r"the head f{32} is not in _heads/: run `sbert classify` again"):
        HEADS.load(str(tmp_path / "out"), "f" * 32, table)
