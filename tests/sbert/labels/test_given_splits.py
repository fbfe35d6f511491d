"""The split that the source names: a column of the rows, or the name of an object."""

import logging
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError, LabelError
from sbert.labels.given_splits import named_split
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels, make_label_set
from sbert.labels.settings import LabelSettings
from tests.support.toy_training import toy_rows

EXACT = {"near_duplicate_similarity": 1.0, "max_leakage": 1.0}
NAMES = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10


def load(folder: Path, column: str, values: list[str | None], **settings: object) -> LabelSet:
    """Write 60 rows with a column of splits and read them."""
    toy_rows(LabelKind.CLASSES, 60).with_columns(pl.Series(column, values)).write_csv(folder / "labels.csv")
    return load_labels(str(folder / "labels.csv"), LabelSettings.model_validate(EXACT | settings))


def texts_of_test_rows() -> set[str]:
    return set(toy_rows(LabelKind.CLASSES, 60).tail(10)["text"])


@pytest.mark.parametrize(
    ("uri", "split"),
    [
        ("/data/stsb-en-dev.csv", "dev"), ("/data/train/part-0.parquet", "train"), ("s3://b/validation.jsonl", "dev"),
        ("/data/eval.jsonl", "dev"), ("/data/labels.csv", None), ("/data/test_train.csv", None),
        ("/data/testing.csv", None), ("/data/test-runs/a.csv", None), ("/data/development/a.csv", None),
    ],
)  # fmt: skip
def test_an_objects_name_says_its_split(uri: str, split: str | None) -> None:
    assert named_split(uri) == split


def test_a_column_called_split_is_the_split_without_a_setting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        labels = load(tmp_path, "split", NAMES)
    assert labels.splits_given == {"dev", "test"}
    assert set(labels.test["text"]) == texts_of_test_rows()
    assert not set(labels.train["text"]) & texts_of_test_rows()
    assert "column 'split' is the split of each row (40 train, 10 " in caplog.text


@pytest.mark.parametrize("word", ["valid", "val", "Eval", " DEV ", "evaluation", "development", "validate"])
def test_words_for_dev_are_understood_in_any_case(tmp_path: Path, word: str) -> None:
    labels = load(tmp_path, "split", ["train"] * 40 + [word] * 10 + ["Test"] * 10)
    assert labels.splits_given == {"dev", "test"}
    assert labels.dev.height > 0


def test_a_setting_turns_the_column_off_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        labels = load(tmp_path, "split", NAMES, use_given_splits=False)
    assert labels.splits_given == frozenset()
    assert "column 'split' is not used as the split (use_given_splits=false)" in caplog.text


def test_a_column_called_split_that_names_no_split_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        labels = load(tmp_path, "split", ["left", "right"] * 30)
    assert labels.splits_given == frozenset()
    assert "column 'split' holds no word for a split" in caplog.text


def test_words_for_splits_beside_other_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"column 'split' holds 'secret', the words for a split are train.*use_given"):
        load(tmp_path, "split", ["train"] * 50 + ["test"] * 9 + ["secret"])


def test_the_setting_names_another_column(tmp_path: Path) -> None:
    assert set(load(tmp_path, "part", NAMES, split_column="part").test["text"]) == texts_of_test_rows()
    with pytest.raises(LabelError, match="column 'part' holds 'holdout'"):
        load(tmp_path, "part", ["holdout"] * 60, split_column="part")
    with pytest.raises(ColumnError, match=r"no column 'missing' \(split_column\)"):
        load(tmp_path, "part", NAMES, split_column="missing")


def test_rows_whose_split_is_empty_are_split_by_hash(tmp_path: Path) -> None:
    labels = load(tmp_path, "split", [*NAMES[:40], *[None] * 20], dev_share=0.3, test_share=0.3)
    assert labels.dev.height + labels.test.height > 0


def test_a_frame_may_use_any_word_for_a_split() -> None:
    rows = toy_rows(LabelKind.CLASSES, 60).with_columns(pl.Series("split", NAMES))
    labels = make_label_set(rows, LabelKind.CLASSES, LabelSettings.model_validate(EXACT))
    assert set(labels.test["text"]) == texts_of_test_rows()
    with pytest.raises(LabelError, match="column 'split' holds 'other'"):
        make_label_set(rows.with_columns(split=pl.lit("other")), LabelKind.CLASSES)
