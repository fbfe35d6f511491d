"""Rows that the encoder has learned from teach a head, and choose, calibrate and judge nothing, with and without a classifier."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse, told_of_encoder
from sbert.apply.classification.fit import HeadOrigin, head_fingerprint
from sbert.apply.classification.heads import HeadDecision
from sbert.apply.classification.learned_rows import DecidingRows
from sbert.apply.classification.multi_label_fit import fit_multi_label_head
from sbert.apply.classification.multi_label_head import MULTI_LABEL_HEADS
from sbert.apply.classification.run import ClassificationReport
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.derived.derived_table import DerivedTable
from sbert.encoder import process_cache
from sbert.errors import ModelError
from sbert.training.learned_texts import LEARNED_TEXTS_NAME
from tests.sbert.apply.classification.tuned_place import NUM_LEARNED, TEXTS, Place
from tests.support.tables import update, write
from tests.support.tiny_models import save_tiny


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A table whose encoder was tuned without a classifier: it has learned from 120 of 240 labelled texts."""
    place = Place(tmp_path)
    place.remove()
    return place


def decision_of(report: ClassificationReport) -> HeadDecision:
    return report.tasks[0].head


def learned_of(report: ClassificationReport) -> LearnedUse:
    learned = decision_of(report).learned
    assert learned is not None
    return learned


def plain_fingerprint(place: Place) -> str:
    """Return the head that an encoder without a record gets, in an output of its own."""
    file = Path(place.model, LEARNED_TEXTS_NAME)
    content = file.read_bytes()
    file.unlink()
    decision = decision_of(place.classify(str(place.folder / "plain")))
    assert decision.learned is None
    file.write_bytes(content)
    return decision.fingerprint


def test_without_a_classifier_the_unseen_rows_alone_calibrate_and_judge(place: Place) -> None:
    report = place.classify()
    decision, learned = decision_of(report), learned_of(report)
    assert decision.classifier is None
    assert decision.num_labels == 180  # every row teaches
    assert (learned.num_seen, learned.num_unseen, learned.with_dev) == (90, 90, False)
    assert place.head(report).confusion.sum() == 90
    assert decision.quality is not None
    assert (decision.quality.num_rows, decision.num_seen_test) == (30, 30)
    page = Path(report.report_uri).read_text()
    assert "90 labelled rows that the encoder has not learned from alone chose and calibrated the head" in page
    assert "30 held-out rows are left out, because the encoder learned from them." in page
    again = place.classify()
    assert again.output.num_rows_built == 0
    assert decision_of(again).learned == learned


def test_unseen_rows_alone_choose_among_settings(place: Place) -> None:
    """Labels of the rows that the encoder knows say the opposite of all others, so that choosing on them is seen."""
    turned = ["down" if label == "up" else "up" for label in place.labels]
    place.write_labels(turned[:NUM_LEARNED] + place.labels[NUM_LEARNED:])
    found = decision_of(place.classify(strengths=[0.1, 10])).tried
    place.learn(TEXTS[NUM_LEARNED:])
    other = decision_of(place.classify(strengths=[0.1, 10])).tried
    assert [item["macro_f1"] for item in found] != [item["macro_f1"] for item in other]


def test_lists_of_classes_are_calibrated_and_judged_on_unseen_rows_alone(place: Place) -> None:
    place.write_labels([[label] if at % 5 else [] for at, label in enumerate(place.labels)])
    report = place.classify()
    decision = decision_of(report)
    assert decision.is_multi_label
    assert learned_of(report).num_unseen == 90
    head = MULTI_LABEL_HEADS.find(place.out, decision.fingerprint)
    assert head is not None
    assert head.record.decisions is not None
    assert [sum(counts) for counts in head.record.decisions] == [90, 90, 90]
    assert decision.quality is not None
    assert (decision.quality.num_rows, decision.num_seen_test) == (30, 30)
    assert decision.fingerprint != plain_fingerprint(place)


def test_a_classifier_that_is_not_considered_leaves_the_record_to_decide(tmp_path: Path) -> None:
    place = Place(tmp_path)
    off = place.classify(str(tmp_path / "off"), classifier=False)
    assert decision_of(off).classifier is None
    assert learned_of(off).num_unseen == 90
    place.write_labels([[label] for label in place.labels])
    lists = place.classify(str(tmp_path / "lists"))
    use = decision_of(lists).classifier
    assert use is not None
    assert "it gives one class to a text" in use.reason
    assert learned_of(lists).num_unseen == 90
    told = decision_of(lists).told_kind()
    assert use.told() in told
    assert learned_of(lists).told() in told


def test_an_encoder_that_was_not_tuned_or_learned_from_other_texts_keeps_its_head_and_output(place: Place) -> None:
    place.remove(LEARNED_TEXTS_NAME)
    before = place.classify()
    assert decision_of(before).learned is None
    place.learn(["a text that nobody labelled"], chosen_on=["another one"])
    after = place.classify()
    assert after.output.num_rows_built == 0
    assert decision_of(after).fingerprint == decision_of(before).fingerprint
    assert decision_of(after).learned is None
    assert decision_of(after).quality == decision_of(before).quality
    place.learn(TEXTS[:NUM_LEARNED])
    tuned = place.classify()
    assert decision_of(tuned).fingerprint != decision_of(before).fingerprint
    assert tuned.output.num_rows_built == 40


def test_names_of_heads_are_those_of_before() -> None:
    """Hashes as the release before this rule gave them."""
    settings = HeadSettings()
    named = {"labels_fingerprint": "l", "encoder_fingerprint": "e", "task": "", "settings": settings}
    assert head_fingerprint(**named, words_column="text") == "d4f3d9784eabb0ff9fde5074cb7c555b"
    assert head_fingerprint(**named, is_multi_label=True) == "78ad915b2a378200c5f62a4110693bc6"
    assert head_fingerprint(**named, learned="classifier:f:c") == "65844284516974902f3a376f0ec35db7"


@pytest.mark.parametrize("are_lists", [False, True])
def test_too_few_unseen_rows_are_told_and_all_rows_decide(
    place: Place, are_lists: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if are_lists:
        place.write_labels([[label] for label in place.labels])
    place.learn(TEXTS[:200])
    plain = plain_fingerprint(place)
    with caplog.at_level(logging.INFO):
        report = place.classify()
    learned = learned_of(report)
    assert "all but 30 of 180 labelled rows, and 50 others are needed (head.min_unseen_rows)" in learned.reason
    assert learned.reason in caplog.text
    assert learned.reason in Path(report.report_uri).read_text()
    assert decision_of(report).fingerprint == plain
    assert decision_of(report).num_seen_test == 0


def test_rows_that_chose_the_checkpoint_decide_only_when_too_few_others_are_left(place: Place) -> None:
    place.learn(TEXTS[:NUM_LEARNED], chosen_on=TEXTS[NUM_LEARNED:160])
    learned = learned_of(place.classify())
    assert (learned.num_seen, learned.num_unseen, learned.with_dev) == (120, 60, False)
    learned = learned_of(place.classify(min_unseen_rows=80))
    assert (learned.num_seen, learned.num_unseen, learned.with_dev) == (90, 90, True)
    assert "some of which chose the encoder's checkpoint" in learned.told()


def test_few_labels_of_which_the_encoder_has_learned_from_none_all_decide(place: Place) -> None:
    place.learn([], chosen_on=TEXTS[:20])
    decision = decision_of(place.classify(min_unseen_rows=1_000))
    assert decision.learned is None
    assert decision.num_seen_test == 0


def test_the_record_of_another_encoder_in_the_same_folder_is_not_taken(place: Place) -> None:
    write(place.folder / "raw/b.jsonl", [{"id": f"l{at}", "text": text} for at, text in enumerate(TEXTS)])
    update(place.folder / "raw", place.table, model=place.model)  # so that no labelled text needs the encoder
    save_tiny(Path(place.model), seed=5)
    process_cache._loaded.clear()  # another night, another process
    report = place.classify()
    assert "restore the model" in learned_of(report).reason
    assert place.head(report).confusion.sum() == 180


def test_a_damaged_record_is_an_error_and_the_output_stays(place: Place) -> None:
    before = place.classify()
    Path(place.model, LEARNED_TEXTS_NAME).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is damaged"):
        place.classify()
    assert DerivedTable.open(place.out).version == before.output.version


def test_what_is_told_of_the_encoder_is_told_once() -> None:
    kept_out = LearnedUse(num_seen=5, num_unseen=100)
    too_few = LearnedUse(num_seen=5, num_unseen=3, reason="too few")
    assert told_of_encoder(None, None) == []
    assert told_of_encoder(None, kept_out) == [kept_out.told()]
    considered, unfit = ClassifierUse(num_unseen=100), ClassifierUse(reason="other classes")
    assert told_of_encoder(considered, kept_out) == [considered.told()]
    assert told_of_encoder(unfit, kept_out) == [unfit.told(), kept_out.told()]
    assert len(told_of_encoder(ClassifierUse(reason="too few"), too_few)) == 1


def test_promises_about_lists_hold_where_the_encoder_knows_the_other_rows_by_heart() -> None:
    """Rows that the encoder learned from show their classes, others hide them under noise."""
    random = np.random.default_rng(0)
    directions_CD = np.eye(4, 16)

    def made(num_rows: int, noise: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        truth_NC = random.random((num_rows, 4)) < 0.3
        vectors = truth_NC @ directions_CD + noise * random.standard_normal((num_rows, 16))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth_NC

    learned, unseen, later = made(600, 0.05), made(600, 0.4), made(4_000, 0.4)
    vectors_ND, truth_NC = (np.concatenate([learned[at], unseen[at]]) for at in range(2))
    labels = [[f"class {at}" for at in np.flatnonzero(row)] for row in truth_NC]
    settings = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), promised_error=0.2)

    def coverage_and_error(deciding: DecidingRows | None) -> tuple[float, float]:
        head = fit_multi_label_head(
            vectors_ND, labels, settings, HeadOrigin(fingerprint="f", encoder_fingerprint="e", labels_fingerprint="l"),
            deciding=deciding,
        )  # fmt: skip
        probabilities_NC = head.probabilities(later[0])
        answered_N = ~head.abstains(probabilities_NC)
        wrong_N = (head.named(probabilities_NC) != later[1]).any(axis=1)
        return float(head.possible(probabilities_NC)[later[1]].mean()), float(wrong_N[answered_N].mean())

    covered, error = coverage_and_error(DecidingRows(np.arange(1_200) >= 600, LearnedUse(num_seen=600, num_unseen=600)))
    assert 0.87 < covered < 0.93
    assert error < 0.22
    covered, error = coverage_and_error(None)  # what the promises are worth on rows that the encoder knows
    assert covered < 0.87
    assert error > 0.22
