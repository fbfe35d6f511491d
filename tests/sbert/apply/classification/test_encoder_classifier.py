"""A classifier that was promoted together with its encoder is a head, judged on rows that the encoder has not learned from."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbert.apply.classification.encoder_classifier import EncoderClassifier
from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse
from sbert.apply.classification.fit import HeadClassifier, HeadOrigin, fit_head
from sbert.apply.classification.learned_rows import DecidingRows
from sbert.apply.classification.run import ClassificationReport
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.derived.derived_table import DerivedTable
from sbert.encoder import process_cache
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import ModelError
from sbert.training.classifier_files import NAMES_FILE, WEIGHTS, ClassifierFiles
from sbert.training.learned_texts import LEARNED_TEXTS_NAME
from tests.sbert.apply.classification.tuned_place import CLASSES, NUM_LEARNED, TEXTS, Place
from tests.support.tables import texts, update, write
from tests.support.tiny_models import save_tiny


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def use_of(report: ClassificationReport) -> ClassifierUse:
    use = report.tasks[0].head.classifier
    assert use is not None
    return use


def test_the_classifier_is_the_head_and_unseen_rows_alone_calibrate_and_judge(place: Place) -> None:
    report = place.classify()
    decision, use = report.tasks[0].head, use_of(report)
    assert decision.kind == "classifier"
    assert use.is_used
    assert (use.num_unseen, use.with_dev) == (90, False)  # 120 unseen rows, a quarter of them held out
    assert use.macro_f1 == 1.0
    assert use.macro_f1_fitted is not None
    assert use.macro_f1_fitted < 1.0
    assert decision.quality is not None
    assert (decision.quality.num_rows, decision.num_seen_test) == (30, 30)
    assert decision.quality.accuracy.value == 1.0
    assert place.head(report).confusion.sum() == 90
    output = DerivedTable.open(place.out).scan().collect()
    vectors_ND = SentenceEncoder.from_pretrained(place.model, device="cpu").encode(texts(1_000, 40), side=Side.DOCUMENT)
    expected = (vectors_ND @ place.classifier.weight_CD.T + place.classifier.bias_C).argmax(axis=1)
    found = dict(output.select("id", "label").iter_rows())
    assert [found[str(1_000 + at)] for at in range(40)] == [CLASSES[at] for at in expected]
    page = Path(report.report_uri).read_text()
    assert "The head is the classifier that was trained together with the encoder" in page
    assert "30 held-out rows are left out, because the encoder learned from them." in page


def test_a_night_without_changes_writes_nothing_and_tells_the_same(place: Place) -> None:
    first, again = place.classify(), place.classify()
    assert again.output.num_rows_built == 0
    assert again.output.version == first.output.version
    assert not again.tasks[0].head.is_new
    assert use_of(again) == use_of(first)
    assert again.tasks[0].head.quality == first.tasks[0].head.quality


def test_another_classifier_of_the_same_encoder_makes_another_head(place: Place) -> None:
    first = place.classify()
    sharper = ClassifierFiles(CLASSES, 2 * place.classifier.weight_CD, 2 * place.classifier.bias_C)
    sharper.write(Path(place.model))
    second = place.classify()
    assert second.tasks[0].head.fingerprint != first.tasks[0].head.fingerprint
    place.learn(TEXTS[: NUM_LEARNED - 8])
    assert use_of(place.classify()).num_unseen == 96


def test_a_classifier_that_knows_less_than_the_labels_leaves_the_head_to_a_fitted_one(place: Place) -> None:
    turned = ClassifierFiles(CLASSES, np.roll(place.classifier.weight_CD, 1, axis=0), place.classifier.bias_C)
    turned.write(Path(place.model))
    report = place.classify()
    use = use_of(report)
    assert not use.is_used
    assert report.tasks[0].head.kind == "linear"
    assert use.macro_f1 is not None
    assert use.macro_f1_fitted is not None
    assert use.macro_f1 < use.macro_f1_fitted
    assert place.head(report).confusion.sum() == use.num_unseen == 90  # these rows judge the fitted head, too
    assert "The head is a fitted one" in Path(report.report_uri).read_text()


def plain_fingerprint(place: Place) -> str:
    """Return the head that a table whose encoder has no classifier gets, in a folder of its own."""
    kept = {name: Path(place.model, name) for name in (NAMES_FILE, WEIGHTS, LEARNED_TEXTS_NAME)}
    contents = {file: file.read_bytes() for file in kept.values() if file.exists()}
    for file in contents:
        file.unlink()
    report = place.classify(str(place.folder / "plain"))
    assert report.tasks[0].head.classifier is None
    for file, content in contents.items():
        file.write_bytes(content)
    return report.tasks[0].head.fingerprint


def test_too_few_unseen_rows_are_told_with_both_numbers_and_the_head_is_that_of_before(place: Place) -> None:
    place.learn(TEXTS[:200])
    plain = plain_fingerprint(place)
    report = place.classify()
    use = use_of(report)
    assert not use.is_used
    assert use.num_unseen == 30
    assert re.search(r"all but 30 of 180 labelled rows, and 50 others are needed \(head.min_unseen_rows\)", use.reason)
    assert report.tasks[0].head.fingerprint == plain
    assert report.tasks[0].head.num_seen_test == 0
    assert use.reason in Path(report.report_uri).read_text()


def test_rows_that_chose_the_checkpoint_count_only_when_too_few_others_are_left(place: Place) -> None:
    place.learn(TEXTS[:NUM_LEARNED], chosen_on=TEXTS[NUM_LEARNED:160])
    assert (use_of(place.classify()).num_unseen, use_of(place.classify()).with_dev) == (60, False)
    report = place.classify(min_unseen_rows=80)
    use = use_of(report)
    assert use.is_used
    assert (use.num_unseen, use.with_dev) == (90, True)
    assert "some of which chose the encoder's checkpoint" in use.told()
    assert report.tasks[0].head.num_seen_test == 30


def test_without_a_record_of_learned_texts_the_classifier_is_not_considered(place: Place) -> None:
    Path(place.model, LEARNED_TEXTS_NAME).unlink()
    plain = plain_fingerprint(place)
    report = place.classify()
    assert "nobody recorded which texts the encoder learned from" in use_of(report).reason
    assert report.tasks[0].head.fingerprint == plain


def test_classifiers_that_do_not_fit_the_task_are_told_and_left_out(place: Place) -> None:
    place.write_labels(["sideways" if label == "flat" else label for label in place.labels])
    reason = use_of(place.classify(str(place.folder / "renamed"))).reason
    assert "1 class only in the labels ('sideways') and 1 class only in the classifier ('flat')" in reason
    place.write_labels([[label] for label in place.labels])
    reason = use_of(place.classify(str(place.folder / "lists"))).reason
    assert "it gives one class to a text" in reason
    place.write_labels()
    smaller = str(place.folder / "smaller")
    update(place.folder / "raw", smaller, model=place.model, settings={"encoding": {"output_dim": 8, "min_recall": 0}})
    place.table = smaller
    dim = place.classifier.weight_CD.shape[1]
    assert f"it reads vectors of {dim} values, and the table stores 8" in use_of(place.classify()).reason


def test_the_setting_turns_the_classifier_off(place: Place) -> None:
    report = place.classify(classifier=False)
    assert report.tasks[0].head.classifier is None
    assert report.tasks[0].head.kind == "linear"


def test_a_classifier_of_another_model_in_the_same_folder_is_not_taken(place: Place) -> None:
    write(place.folder / "raw/b.jsonl", [{"id": f"l{at}", "text": text} for at, text in enumerate(TEXTS)])
    update(place.folder / "raw", place.table, model=place.model)  # so that no labelled text needs the encoder
    save_tiny(Path(place.model), seed=5)
    process_cache._loaded.clear()  # another night, another process
    assert "restore the model" in use_of(place.classify()).reason
    assert place.classify().tasks[0].head.kind == "linear"


@pytest.mark.parametrize("name", [WEIGHTS, LEARNED_TEXTS_NAME])
def test_damaged_files_are_an_error_that_names_them_and_the_output_stays(place: Place, name: str) -> None:
    before = place.classify()
    Path(place.model, name).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is damaged"):
        place.classify()
    assert DerivedTable.open(place.out).version == before.output.version


def test_words_may_be_added_to_the_classifier_and_rules_are_not_read(place: Place) -> None:
    rules = write(place.folder / "rules.jsonl", [{"class": "up", "terms": ["cat"]}])
    report = place.classify(more={"rules_uri": str(rules)}, words=True)
    decision = report.tasks[0].head
    assert use_of(report).is_used
    assert decision.words is not None
    assert {(item["kind"], "words" in item) for item in decision.tried} == {
        ("linear", False), ("linear", True), ("classifier", False), ("classifier", True)
    }  # fmt: skip
    assert decision.text_column == ""
    assert (decision.rules, decision.rules_use) == (None, None)
    assert "by_rules" not in DerivedTable.open(place.out).scan().collect().columns
    assert "reads no rules" in use_of(report).told()


def test_promises_hold_where_the_encoder_knows_the_other_rows_by_heart() -> None:
    """Rows that the encoder learned from lie near the centre of their class, others far from it."""
    random = np.random.default_rng(0)
    centres_CD = np.eye(3, 16)

    def made(num_rows: int, noise: float) -> tuple[np.ndarray[Any, Any], list[str]]:
        truth = random.integers(0, 3, num_rows)
        vectors = centres_CD[truth] + noise * random.standard_normal((num_rows, 16)) / 2
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32), [f"class {number}" for number in truth]

    learned, unseen, later = made(600, 0.3), made(600, 1.2), made(4_000, 1.2)
    vectors_ND, labels = np.concatenate([learned[0], unseen[0]]), learned[1] + unseen[1]
    is_unseen_N = np.arange(1_200) >= 600
    classifier = HeadClassifier(
        EncoderClassifier((8 * centres_CD.T).astype(np.float32), np.zeros(3, np.float32)), ClassifierUse(num_unseen=600)
    )
    deciding = DecidingRows(is_unseen_N, LearnedUse(num_seen=600, num_unseen=600))
    settings = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), promised_error=0.1)

    def coverage_and_error(given: HeadClassifier | None, unseen: DecidingRows | None) -> tuple[float, float]:
        head = fit_head(
            vectors_ND, labels, settings, HeadOrigin(fingerprint="f", encoder_fingerprint="e", labels_fingerprint="l"),
            classifier=given, deciding=unseen,
        )  # fmt: skip
        probabilities_NC = head.probabilities(later[0])
        truth_N = np.array([head.classes.index(label) for label in later[1]])
        answered_N = ~head.abstains(probabilities_NC)
        covered = head.sets(probabilities_NC)[np.arange(len(truth_N)), truth_N].mean()
        return float(covered), float((probabilities_NC.argmax(axis=1) != truth_N)[answered_N].mean())

    for given in (classifier, None):  # without a classifier the record alone decides
        covered, error = coverage_and_error(given, deciding)
        assert 0.87 < covered < 0.93
        assert error < 0.12
    covered, error = coverage_and_error(None, None)  # what the promises are worth on rows that the encoder knows
    assert covered < 0.87
    assert error > 0.12


def test_names_of_heads_without_a_classifier_stay_as_they_are() -> None:
    assert not {"classifier", "min_unseen_rows"} & HeadSettings().model_dump().keys()
    assert HeadSettings(classifier=False).model_dump()["classifier"] is False
    with pytest.raises(ValueError, match="kinds"):
        HeadSettings.model_validate({"kinds": ["classifier"]})
