"""Rows that weaken training are left out where they would be wrong, counted, and reported."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from sbert.errors import TooFewLabelsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.losses.ranking import KnownPairs, RankingLoss
from sbert.training.settings import Objective, TrainingSettings
from sbert.training.train import train_encoder
from tests.support.tiny_models import WORDS
from tests.support.toy_training import FAST, TOPICS, sentence, toy_labels, toy_rows

EXACT = LabelSettings(near_duplicate_similarity=1.0, dev_share=0.0, test_share=0.0)


def few_answers(num_rows: int, num_answers: int) -> LabelSet:
    """Return questions that share few answers."""
    rows = toy_rows(LabelKind.PAIRS, num_rows).with_columns(
        positive=pl.Series([" ".join(TOPICS[number % num_answers]) for number in range(num_rows)])
    )
    return make_label_set(rows, LabelKind.PAIRS, EXACT)


def test_a_positive_of_the_anchor_is_no_negative_of_it() -> None:
    """Texts: questions 0, 1, 2 and answers 3, 4; 0 and 1 have answer 3, 2 has 4, and 0 has 4 in a row of another batch."""
    pairs = KnownPairs.of(np.array([[0, 3], [1, 3], [2, 4], [0, 4]]))
    marked = pairs.not_negative(torch.tensor([[0, 3], [1, 3], [2, 4]]))
    assert marked.tolist() == [
        [False, True, True],  # 3 again, and 4, which answers 0 too
        [True, False, False],
        [False, False, False],
    ]


def test_given_negatives_that_are_positives_of_the_anchor_are_left_out() -> None:
    pairs = KnownPairs.of(np.array([[0, 2], [1, 3]]))
    marked = pairs.not_negative(torch.tensor([[0, 2, 3], [1, 3, 3]]))  # the negative of both rows is text 3
    assert marked[:, 2:].tolist() == [[False, False], [True, True]]


def test_the_loss_of_a_batch_with_one_answer_twice_is_that_of_formula_without_it() -> None:
    """Rows 0 and 1 have the same answer: each chooses between its answer and that of row 2 only."""
    generator = torch.Generator().manual_seed(0)
    anchors = torch.nn.functional.normalize(torch.randn(3, 8, generator=generator), dim=1)
    answers = torch.nn.functional.normalize(torch.randn(2, 8, generator=generator), dim=1)[[0, 0, 1]]
    scores = (anchors @ answers.T / 0.05).tolist()
    counted = [[0, 2], [1, 2], [0, 1, 2]]
    expected = sum(
        float(torch.logsumexp(torch.tensor([scores[row][other] for other in counted[row]]), 0)) - scores[row][row]
        for row in range(3)
    )
    pairs = KnownPairs.of(np.array([[0, 3], [1, 3], [2, 4]]))
    loss = RankingLoss(symmetric=False, known_pairs=pairs)([anchors, answers], torch.tensor([[0, 3], [1, 3], [2, 4]]))
    assert float(loss) == pytest.approx(expected / 3, rel=1e-5)


def test_few_answers_are_counted_and_reported(base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = few_answers(200, 5)
    result = train_encoder(base, labels, TrainingSettings(epochs=1, **FAST), tmp_path)
    [note] = result.notes
    assert re.match(r"1[89]\d of 192 rows share a batch with a positive of their own", note)
    assert "(5 different positives in " in note
    assert note in caplog.text


def test_rows_with_answers_of_their_own_are_not_reported(base: str, tmp_path: Path) -> None:
    result = train_encoder(base, toy_labels(LabelKind.PAIRS), TrainingSettings(epochs=1, **FAST), tmp_path)
    assert result.notes == ()


def test_one_answer_to_all_questions_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(TooFewLabelsError, match="have 1 different positives, so no row has a negative in its batch"):
        train_encoder(base, few_answers(60, 1), TrainingSettings(epochs=1, **FAST), tmp_path)


def classes(*sizes: int) -> LabelSet:
    """Return texts of classes of these sizes."""
    import random

    rng = random.Random(0)
    rows = [
        (f"{sentence(rng, number % 10)} {WORDS[number]}", f"class {number}")
        for number, size in enumerate(sizes)
        for _ in range(size)
    ]
    return make_label_set(pl.DataFrame(rows, schema=["text", "label"], orient="row"), LabelKind.CLASSES, EXACT)


def test_classes_of_one_text_are_reported(base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = train_encoder(base, classes(8, 8, 1, 1), TrainingSettings(epochs=1, **FAST), tmp_path)
    [note] = result.notes
    assert note.startswith("2 of 4 classes have one train text, such as 'class 2', 'class 3'")
    assert note in caplog.text


def test_classes_that_all_have_one_text_are_refused_unless_their_names_are_texts(base: str, tmp_path: Path) -> None:
    labels = classes(*[1] * 12)
    with pytest.raises(TooFewLabelsError, match=r"12 of 12 classes have one train text.*training.class_names"):
        train_encoder(base, labels, TrainingSettings(epochs=1, **FAST), tmp_path / "a")
    named = TrainingSettings(epochs=1, class_names=True, **FAST)
    assert train_encoder(base, labels, named, tmp_path / "b").notes == ()
    head = TrainingSettings(epochs=1, objective=Objective.CROSS_ENTROPY, **FAST)
    assert train_encoder(base, labels, head, tmp_path / "c").notes == ()
