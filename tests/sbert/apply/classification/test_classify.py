"""The classes of a table follow its rows and its labels, at the cost of what changed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification import head_search, heads
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSearchSettings, HeadSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows, train_head
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import LabelError, SettingsError, TableError
from sbert.retrain import study
from sbert.table.delta import Table
from tests.support.earlier_records import record_settings
from tests.support.made_tables import make_version, unit_vector

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2)
SETTINGS = ClassificationSettings(head=QUICK)


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each labelled text the vector of the number at its end; the made tables have no encoder."""

    def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)

    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)


def rows(first: int, count: int) -> dict[str, int]:
    return {str(number): number for number in range(first, first + count)}


def text_of(number: int) -> str:
    """Return a text that is like no other."""
    return f"{hashlib.sha256(str(number).encode()).hexdigest()} {number}"


def sign_of(number: int) -> str:
    return "up" if unit_vector(number)[0] > 0 else "down"


def write_labels(folder: Path, numbers: range, *, wrong: bool = False, name: str = "labels.jsonl") -> str:
    folder.mkdir(exist_ok=True)
    other = {"up": "down", "down": "up"}
    (folder / name).write_text(
        "".join(
            json.dumps(
                {
                    "text": text_of(number),
                    "label": other[sign_of(number)] if wrong else sign_of(number),
                    "tone": "warm" if unit_vector(number)[1] > 0 else "cold",
                    "region": "north" if number % 2 else "south",
                    "split": "test" if number % 4 == 0 else "train",
                }
            )
            + "\n"
            for number in numbers
        )
    )
    return str(folder)


def run(table: str, labels: str, out: Path, settings: ClassificationSettings = SETTINGS) -> ClassificationReport:
    return classify(table, labels, str(out), settings)


def output(out: Path) -> pl.DataFrame:
    frame = DerivedTable.open(str(out)).scan().sort("source", "id").collect()
    assert isinstance(frame, pl.DataFrame)
    return frame


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


def test_new_labels_replace_the_head_unless_it_is_worse(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 60)})
    labels = write_labels(tmp_path / "labels", range(400))
    before = run(table, labels, out)
    good = output(out)
    write_labels(tmp_path / "labels", range(401, 1_200, 2), wrong=True, name="mistaken.jsonl")
    refused = run(table, labels, out)
    head = refused.tasks[0].head
    assert head.refused is not None
    assert head.fingerprint == before.tasks[0].head.fingerprint
    assert "macro-F1 drops by" in head.reason
    assert refused.output.num_rows_built == 0
    assert output(out).equals(good)
    assert "A new head was refused" in Path(refused.report_uri).read_text()
    (tmp_path / "labels/mistaken.jsonl").unlink()
    write_labels(tmp_path / "labels", range(401, 800, 2), name="more.jsonl")
    accepted = run(table, labels, out)
    assert accepted.tasks[0].head.is_new
    assert re.fullmatch(r"macro-F1 [01]\.\d{4} → [01]\.\d{4} on 100 held-out rows", accepted.tasks[0].head.reason)
    assert accepted.output.num_rows_built == 60


def test_a_drop_within_the_tolerance_and_changed_classes_are_told(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 60)})
    labels = write_labels(tmp_path / "labels", range(400))
    tolerant = SETTINGS.model_copy(update={"tolerance": 1.0})
    run(table, labels, out, tolerant)
    write_labels(tmp_path / "labels", range(401, 1_200, 2), wrong=True, name="mistaken.jsonl")
    reason = run(table, labels, out, tolerant).tasks[0].head.reason
    found = re.fullmatch(r"macro-F1 (\S+) → (\S+) on 100 held-out rows, a drop within the tolerance of 1", reason)
    assert found is not None, reason
    assert float(found[1]) > float(found[2])
    tones = tolerant.model_copy(update={"labels": tolerant.labels.model_copy(update={"columns": {"label": "tone"}})})
    reason = run(table, labels, out, tones).tasks[0].head.reason
    assert "(2 classes new: 'cold', 'warm'; 2 classes gone: 'down', 'up')" in reason


def test_a_class_that_nearly_all_rows_have_is_told_every_night_and_in_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 20)})
    up = [number for number in range(2_000) if sign_of(number) == "up"][:180]
    down = [number for number in range(2_000) if sign_of(number) == "down"][:20]
    labels = tmp_path / "labels"
    labels.mkdir()
    lines = [{"text": text_of(number), "label": sign_of(number)} for number in [*up, *down]]
    (labels / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        caplog.clear()
        report = run(table, str(labels), out)
        told = "90 % of the labelled rows have the class 'up': judge the head by macro-F1, not by accuracy"
        assert report.tasks[0].head.dominant == told
        assert told in caplog.text
    assert told.replace("'", "&#39;") in Path(report.report_uri).read_text().replace("&#x27;", "&#39;")


def test_another_encoder_needs_a_head_of_its_own(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 40)})
    labels = write_labels(tmp_path / "labels", range(200))
    first = run(table, labels, out)
    make_version(table, {"a": rows(1_000, 40)}, encoder_number=1)
    second = run(table, labels, out)
    assert second.tasks[0].head.fingerprint != first.tasks[0].head.fingerprint
    reason = second.tasks[0].head.reason
    assert "another encoder, whose vectors the head before cannot classify: macro-F1 " in reason
    quality = first.tasks[0].head.quality
    assert quality is not None
    assert f"{quality.macro_f1.value:.4f} of the head before when it was last measured" in reason
    assert second.output.num_rows_built == 40


def test_measures_of_a_head_that_was_never_in_use_are_not_taken_for_those_of_the_head_before(tmp_path: Path) -> None:
    """A run that is killed between measuring and classifying leaves the measures of its own head."""
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 40)})
    labels = write_labels(tmp_path / "labels", range(200))
    run(table, labels, out)
    kept = out / "_reports/measures.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "head": "of a killed run"}))
    make_version(table, {"a": rows(1_000, 40)}, encoder_number=1)
    assert run(table, labels, out).tasks[0].head.reason == (
        "the table has another encoder, whose vectors the head before cannot classify"
    )


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


def test_tasks_that_leave_the_output_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 40)})
    labels = write_labels(tmp_path / "labels", range(300))
    run(table, labels, out, SETTINGS.model_copy(update={"label_columns": ("label", "tone")}))
    assert "not asked for" not in caplog.text
    run(table, labels, out, SETTINGS.model_copy(update={"label_columns": ("label",)}))
    assert "1 task is not asked for any more, so the columns leave the output" in caplog.text
    assert "to keep them: 'tone'" in caplog.text


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


def test_a_search_that_was_killed_goes_on_and_its_journal_goes_with_the_stored_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, labels, out = tmp_path / "table", write_labels(tmp_path / "labels", range(100)), tmp_path / "out"
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    settings = SETTINGS.with_search(4)
    began: list[HeadChoice] = []

    def train(labelled: LabelledRows, choice: HeadChoice, *others: Any) -> Any:
        began.append(choice)
        if len(began) == 5:
            raise KeyboardInterrupt
        return train_head(labelled, choice, *others)

    monkeypatch.setattr(head_search, "train_head", train)
    with pytest.raises(KeyboardInterrupt):
        run(str(table), labels, out, settings)
    [journal] = out.rglob("search.jsonl")
    assert journal.parent.parent.name == "_heads"
    assert "text" not in journal.read_text()
    report = run(str(table), labels, out, settings)
    assert began[5] == began[4]  # the trial that was running
    head = report.tasks[0].head
    assert head.search is not None
    assert head.search.num_trials == 4
    assert head.fingerprint == journal.parent.name
    assert not journal.exists()
    page = Path(report.report_uri).read_text()
    assert all(f"trial {number}" in page for number in range(1, 5))
    assert page.count(head.search.told()) == 1
    assert "landmarks" in page
    num_began = len(began)
    again = run(str(table), labels, out, settings)
    assert again.tasks[0].head.search == head.search
    assert again.output.num_rows_built == 0
    assert len(began) == num_began  # a stored head is not searched again
    plain = run(str(table), labels, out)
    assert plain.tasks[0].head.fingerprint != head.fingerprint
    assert plain.tasks[0].head.search is None
    assert "landmarks" not in Path(plain.report_uri).read_text()


def test_trials_that_were_stopped_are_in_the_report_with_the_reason(tmp_path: Path) -> None:
    table, labels = tmp_path / "table", write_labels(tmp_path / "labels", range(100))
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    search = HeadSearchSettings(trials=9, max_minutes=1e-6)
    settings = SETTINGS.model_copy(update={"head": QUICK.model_copy(update={"search": search})})
    report = run(str(table), labels, tmp_path / "out", settings)
    page = Path(report.report_uri).read_text()
    assert "stopped: the time limit of 1e-06 minutes" in page
    assert "The search tried 1 of 9 settings beside the grid, until its time was over (1 stopped early)." in page


def test_without_optuna_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, labels = tmp_path / "table", write_labels(tmp_path / "labels", range(100))
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'sbert-prefect\[search\]'"):
        run(str(table), labels, tmp_path / "out", SETTINGS.with_search(3))
    assert not (tmp_path / "out").exists()
