"""The fit to labels: thresholds keep their promise, questions without an answer are refused, words can win."""

from pathlib import Path

import numpy as np
import pytest

from sbert.apply.answers.answer_pool import AnswerTables, TableSplits
from sbert.apply.answers.best_answers import Questions
from sbert.apply.answers.fit import Labelled, fit_labelled, threshold_for
from sbert.apply.answers.model import AnswerModel, Calibration, FittedModel, load_model, save_model
from sbert.apply.answers.settings import AnswerSettings, FusionWeights
from sbert.apply.answers.shared_words import WordCounts
from sbert.errors import TableError, TooFewLabelsError
from sbert.vectors.unit import unit_rows
from tests.support.made_tables import make_version, unit_vector

COUNTS = WordCounts(np.zeros(0, np.uint64), np.zeros(0, np.int64), 40, 1.0)


def fixed() -> FittedModel:
    calibration = Calibration(coefficients=(1.0,) * 6, intercept=0.0, threshold=0.5)
    record = AnswerModel(
        origin="fixed",
        weights=FusionWeights(),
        first=calibration,
        first_two=calibration,
        promised_error=0.05,
        token_length=None,
        encoder_fingerprint="e",
        num_answers=40,
        mean_length=1.0,
    )
    return FittedModel(record=record, counts=COUNTS)


def labelled(num: int, noise: float) -> Labelled:
    """Return questions near the answers 0, 1, 2, …"""
    chance = np.random.default_rng(0)
    vectors = np.stack([unit_vector(at % 40) + noise * chance.normal(size=4) for at in range(num)]).astype(np.float32)
    return Labelled(Questions(unit_rows(vectors), None), [{("a", str(at % 40))} for at in range(num)])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> AnswerTables:
    table = make_version(str(tmp_path_factory.mktemp("answers") / "table"), {"a": {str(row): row for row in range(40)}})
    return AnswerTables(TableSplits(table), None, ())


def test_a_fit_tells_right_answers_from_near_misses(tables: AnswerTables) -> None:
    model = fit_labelled(labelled(200, 0.02), tables, fixed(), AnswerSettings()).record
    quality = model.quality
    assert quality is not None
    assert quality.auroc > 0.9
    assert quality.auroc_low <= quality.auroc <= quality.auroc_high
    assert quality.error <= 0.05
    assert 0.3 < quality.coverage <= 0.75
    assert [each.coverage for each in quality.curve] == sorted(each.coverage for each in quality.curve)


def test_an_answer_that_says_what_a_right_one_says_is_right_in_both_looks(tmp_path: Path) -> None:
    """Each answer is there twice with one text hash; labels name the first, and learn the same as without copies."""
    rows = {str(row): row for row in range(40)}
    twice = make_version(str(tmp_path / "twice"), {"a": rows, "b": rows})
    once = make_version(str(tmp_path / "once"), {"a": rows})
    repeated, plain = (
        fit_labelled(
            labelled(100, 0.1), AnswerTables(TableSplits(table), None, ()), fixed(), AnswerSettings(k=8)
        ).record
        for table in (twice, once)
    )
    assert repeated.weights == plain.weights
    assert repeated.quality is not None
    assert plain.quality is not None
    assert repeated.quality.best_is_right == plain.quality.best_is_right
    assert repeated.quality.auroc == pytest.approx(plain.quality.auroc, abs=0.05)


def test_the_same_labels_make_the_same_model(tables: AnswerTables) -> None:
    one, two = (fit_labelled(labelled(100, 0.1), tables, fixed(), AnswerSettings()).record for _ in range(2))
    assert one == two


def test_too_few_labels_are_refused_with_the_number(tables: AnswerTables) -> None:
    with pytest.raises(TooFewLabelsError, match="5 labelled questions"):
        fit_labelled(labelled(5, 0.1), tables, fixed(), AnswerSettings())


def test_the_threshold_counts_one_wrong_answer_more_than_it_saw() -> None:
    probability, weight = np.linspace(1, 0, 101), np.ones(101)
    right = np.ones(101, np.bool_)
    assert threshold_for(probability, right, weight, 0.05) == 0  # (0 + 1) / (101 + 1) is below 0.05
    assert threshold_for(probability[:18], right[:18], weight[:18], 0.05) == 2  # 1 / 19 is above
    right[50:] = False
    # n answers with n - 50 wrong ones: (n - 50 + 1) / (n + 1) <= 0.05 up to n = 51
    assert threshold_for(probability, right, weight, 0.05) == pytest.approx(probability[50])


def test_equal_probabilities_are_answered_together_or_not_at_all() -> None:
    probability = np.repeat([0.9, 0.5], [40, 10])
    right = np.array([True] * 45 + [False] * 5)
    assert threshold_for(probability, right, np.ones(50), 0.05) == 0.9


def test_a_model_is_read_as_it_was_written_and_damage_is_found(tmp_path: Path) -> None:
    uri, digest = save_model(str(tmp_path), fixed())
    assert load_model(uri).record == fixed().record
    assert uri.endswith(digest)
    Path(f"{uri}.json").write_bytes(Path(f"{uri}.json").read_bytes().replace(b"0.05", b"0.50"))
    with pytest.raises(TableError, match="damaged"):
        load_model(uri)
