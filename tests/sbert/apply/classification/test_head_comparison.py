"""A new head replaces the one before where it is good enough, and the reason says what changed."""

import json
import re
from pathlib import Path

import pytest

from tests.sbert.apply.classification.made_labels import (
    SETTINGS,
    give_vectors,
    output,
    rows,
    run,
    sign_of,
    text_of,
    write_labels,
)
from tests.support.made_tables import make_version


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the labelled texts."""
    give_vectors(monkeypatch)


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


def test_tasks_that_leave_the_output_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, out = str(tmp_path / "table"), tmp_path / "out"
    make_version(table, {"a": rows(1_000, 40)})
    labels = write_labels(tmp_path / "labels", range(300))
    run(table, labels, out, SETTINGS.model_copy(update={"label_columns": ("label", "tone")}))
    assert "not asked for" not in caplog.text
    run(table, labels, out, SETTINGS.model_copy(update={"label_columns": ("label",)}))
    assert "1 task is not asked for any more, so the columns leave the output" in caplog.text
    assert "to keep them: 'tone'" in caplog.text
