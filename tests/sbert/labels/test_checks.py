"""Labels that teach nothing, contradict or repeat each other, or are too few."""

import logging
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import (
    LabelError,
    TooFewLabelsError,
)
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels, make_label_set
from tests.sbert.labels.small_labels import ALL, TWENTY, classes


def test_labels_of_one_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooFewLabelsError, match=r"^all 20 train rows are of one class, 'a'"):
        make_label_set(classes(TWENTY, ["a"] * 20), LabelKind.CLASSES, ALL)
    classes(TWENTY, ["a"] * 20).write_csv(tmp_path / "labels.csv")
    with pytest.raises(TooFewLabelsError, match=f"^{tmp_path}: all 20 train rows are of one class, 'a'"):
        load_labels(str(tmp_path), ALL)


def test_three_rows_are_too_few() -> None:
    with pytest.raises(TooFewLabelsError, match=r"3 rows to train on, but at least 8 are needed \(min_train_rows\)"):
        make_label_set(classes(TWENTY[:3], ["a", "b", "a"]), LabelKind.CLASSES, ALL)


def test_contradicting_labels_are_refused_or_dropped() -> None:
    rows = pl.DataFrame(
        {
            "sentence1": [*TWENTY, "A cat!", "a dog"],
            "sentence2": [*TWENTY[::-1], "a dog", "a cat"],
            "score": [0.5, 0.4] * 10 + [0.0, 1.0],
        }
    )
    with pytest.raises(
        LabelError, match=r"2 of 22 train rows contradict.*'0.0'|2 of 22 train rows contradict.*0.0 and 1.0"
    ):
        make_label_set(rows, LabelKind.SCORED_PAIRS, ALL)
    lenient = ALL.model_copy(update={"max_contradictions": 0.2})
    labels = make_label_set(rows, LabelKind.SCORED_PAIRS, lenient)
    assert labels.num_rejected["contradiction"] == 2
    assert not set(labels.train["sentence1"]) & {"A cat!", "a dog"}


def test_signs_that_tell_texts_apart_make_neither_contradictions_nor_repeats() -> None:
    texts = ["C++ help", "C# help", "👍", "👎", "-5", "5", "is it on?", "it is on", "x²", "x2", ":)", ":(", "?", "..."]
    labels = make_label_set(classes(texts, ["a", "b"] * 7), LabelKind.CLASSES, ALL)
    assert labels.num_rejected == {}
    assert sorted(labels.train["text"]) == sorted(texts)


def test_case_white_space_and_final_signs_make_a_repeat() -> None:
    rows = classes(
        [*TWENTY, "Text  number one", "text number one .", "TEXT NUMBER TWO?!"], ["a", "b"] * 10 + list("aab")
    )
    labels = make_label_set(rows, LabelKind.CLASSES, ALL)
    assert labels.num_rejected == {"repeated": 3}
    against = classes([*TWENTY, "Text Number One…"], ["a", "b"] * 10 + ["b"])
    with pytest.raises(LabelError, match=r"2 of 21 train rows contradict .* is 'a' and 'b'"):
        make_label_set(against, LabelKind.CLASSES, ALL)


def test_scores_outside_the_declared_range_are_refused() -> None:
    rows = pl.DataFrame({"sentence1": TWENTY, "sentence2": TWENTY[::-1], "score": [0.5] * 19 + [4.2]})
    with pytest.raises(LabelError, match=r"1 of 20 scores are not numbers from 0 to 1; the first is '4.2'.*score_max"):
        make_label_set(rows, LabelKind.SCORED_PAIRS, ALL)
    with pytest.raises(LabelError, match="the first is 'high'"):
        make_label_set(rows.with_columns(score=pl.Series(["0.5"] * 19 + ["high"])), LabelKind.SCORED_PAIRS, ALL)


def test_an_unknown_nli_label_is_refused() -> None:
    rows = pl.DataFrame({"premise": TWENTY, "hypothesis": TWENTY[::-1], "label": ["0", "maybe"] * 10})
    with pytest.raises(LabelError, match="10 of 20 NLI labels are unknown \\(first: 'maybe'\\): write "):
        make_label_set(rows, LabelKind.NLI, ALL)


def test_empty_texts_and_missing_labels_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = classes([*TWENTY, "", "  ", "fine"], ["a", "b"] * 10 + ["a", "a", ""])
    with caplog.at_level(logging.WARNING):
        labels = make_label_set(rows, LabelKind.CLASSES, ALL)
    assert labels.num_rejected == {"empty_text": 2, "no_label": 1}
    assert labels.train.height == 20
    assert caplog.messages == [
        "labels: classes, 23 rows read: 20 train, 0 dev, 0 test, 3 left out (2 with an empty text, 1 without a label)"
    ]


def test_too_few_rows_say_where_the_others_went() -> None:
    rows = classes([*TWENTY[:5], TWENTY[0], *[" "] * 30], ["a", "b"] * 18)
    expected = (
        r"5 rows to train on, but at least 8 are needed \(min_train_rows\): label more. 36 rows read: 5 train, 0 dev, 0 test, 31 left out "
        r"\(30 with an empty text, 1 that repeat another row\)"
    )
    with pytest.raises(TooFewLabelsError, match=expected):
        make_label_set(rows.with_columns(label=pl.Series([*"ababaa", *"a" * 30])), LabelKind.CLASSES, ALL)
