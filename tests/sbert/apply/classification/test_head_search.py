"""A search of settings of a head: trials by cross-validation, the best against the grid, and a killed search that goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sbert.apply.classification import cross_validation, head_search
from sbert.apply.classification.choice import HeadSelection, choose_head
from sbert.apply.classification.cross_validation import macro_f1, unseen_scores
from sbert.apply.classification.fit import earlier_fingerprint, fit_head, head_fingerprint, labelled_rows
from sbert.apply.classification.head import HEADS
from sbert.apply.classification.learned_rows import DecidingRows, LearnedUse
from sbert.apply.classification.multi_label_fit import fit_multi_label_head, truth_matrix
from sbert.apply.classification.scored_choices import MIN_WORDS_GAIN
from sbert.apply.classification.search_use import SearchUse
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSearchSettings, HeadSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows, train_head
from sbert.apply.classification.words import count_terms
from sbert.errors import SettingsError
from sbert.retrain import study
from tests.sbert.apply.classification.blobs import ORIGIN, blobs
from tests.sbert.apply.classification.test_multi_label_fit import overlapping

SEARCH = HeadSearchSettings(trials=6)
GRID = HeadSettings(strengths=(10.0,), num_landmarks=40, num_folds=2)
SETTINGS = GRID.model_copy(update={"search": SEARCH})


def searched(**search: Any) -> HeadSettings:
    return GRID.model_copy(update={"search": SEARCH.model_copy(update=search)})


def rows_of(num_rows: int = 150, *, texts: list[str] | None = None) -> LabelledRows:
    vectors, labels = blobs(num_rows, spread=1.0)
    truth = np.array([int(label.split()[-1]) for label in labels])
    return labelled_rows(vectors, truth, {}, None, None if texts is None else count_terms(texts), None)


def worded_rows() -> LabelledRows:
    """Return rows whose class a word tells in two of three cases, and the vector in others."""
    _, labels = blobs(150, spread=1.0)
    random = np.random.default_rng(0)
    texts = [f"{label if random.random() < 0.7 else 'other'} word{random.integers(20)}" for label in labels]
    return rows_of(texts=[text.replace("class ", "class") for text in texts])


def trials_of(selection: HeadSelection) -> list[dict[str, Any]]:
    return [told for told in selection.tried if "trial" in told]


def recorded_training(monkeypatch: pytest.MonkeyPatch, killed_at: int | None = None) -> list[HeadChoice]:
    """Record the choices of which the search trains a head; end the run in the middle of one of these trainings."""
    trained: list[HeadChoice] = []

    def train(rows: LabelledRows, choice: HeadChoice, *others: Any) -> Any:
        trained.append(choice)
        if len(trained) == killed_at:
            raise KeyboardInterrupt
        return train_head(rows, choice, *others)

    monkeypatch.setattr(head_search, "train_head", train)
    return trained


@pytest.mark.parametrize("with_words", [False, True])
def test_the_best_of_grid_and_trials_is_chosen_and_has_the_macro_f1_that_is_told(with_words: bool) -> None:
    rows = worded_rows() if with_words else rows_of()
    before, found = choose_head(rows, GRID, 3), choose_head(rows, searched(trials=12, prune=False), 3)
    assert before.macro_f1 is not None
    assert found.macro_f1 is not None
    assert found.macro_f1 >= before.macro_f1
    assert found.search is not None
    assert found.search.macro_f1_grid == before.chosen_macro_f1
    assert found.tried[: len(before.tried)] == before.tried  # the grid comes first, as it was
    assert [told["trial"] for told in trials_of(found)] == list(range(1, 13))
    assert found.search.best_trial is not None  # else this test would show nothing
    best = trials_of(found)[found.search.best_trial - 1]
    assert (best["kind"], best["strength"]) == (found.choice.kind, found.choice.strength)
    assert best["macro_f1"] == round(found.search.macro_f1, 6)
    again = macro_f1(rows, unseen_scores(rows, found.choice, GRID, 3, 3))
    assert again == pytest.approx(found.chosen_macro_f1, abs=1e-12)
    if with_words:
        assert {"words", "word_strength", "macro_f1_without_words"} <= best.keys()


def test_words_have_to_add_as_much_to_the_best_of_vectors_alone_as_in_the_grid() -> None:
    rows = worded_rows()
    found = choose_head(rows, SETTINGS, 3)
    assert found.macro_f1 is not None
    assert found.macro_f1_with_words is not None
    assert found.macro_f1_with_words - found.macro_f1 >= MIN_WORDS_GAIN
    assert found.choice.word_weight > 0
    values = [told["macro_f1_without_words"] for told in trials_of(found)]
    told = found.tried[0], found.tried[2]  # the grid's choices of vectors alone
    assert round(found.macro_f1, 6) == max(*values, *(float(each["macro_f1"]) for each in told))
    silent = rows_of(texts=["nothing to say"] * 150)
    searched, of_grid = (
        choose_head(silent, SETTINGS, 3),
        choose_head(silent, SETTINGS.model_copy(update={"search": None}), 3),
    )
    assert searched.search is not None
    assert searched.search.best_trial is None  # nothing is clearly better than the grid
    assert searched.choice == of_grid.choice


def test_the_same_seed_gives_the_same_trials() -> None:
    first, second = (choose_head(rows_of(), SETTINGS, 3) for _ in range(2))
    assert first.choice == second.choice
    for one, other in zip(trials_of(first), trials_of(second), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_killed_search_goes_on_and_repeats_no_trial_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, uri = worded_rows(), str(tmp_path / "search.jsonl")
    with monkeypatch.context() as patched:
        killed = recorded_training(patched, killed_at=8)
        with pytest.raises(KeyboardInterrupt):
            choose_head(rows, searched(prune=False), 3, uri)
    grid_fits: list[HeadChoice] = []
    with monkeypatch.context() as patched:
        patched.setattr(cross_validation, "train_head", lambda *given: grid_fits.append(given[1]))
        resumed = recorded_training(patched)
        found = choose_head(rows, searched(prune=False), 3, uri)
    assert grid_fits == []  # the grid was scored before
    assert resumed[0] == killed[-1]  # the trial that was running begins again
    assert not set(resumed) & set(killed[:6])
    assert len(resumed) == 4 * 3  # four trials of three folds
    whole = choose_head(rows, GRID, 3)
    assert found.tried[:4] == whole.tried
    assert [told["outcome"] for told in trials_of(found)] == ["completed"] * 6


def test_a_trial_whose_result_was_stored_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, uri = rows_of(), str(tmp_path / "search.jsonl")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(head_search.HeadSearch, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            choose_head(rows, searched(trials=2), 3, uri)
    trained = recorded_training(monkeypatch)
    found = choose_head(rows, searched(trials=2, prune=False), 3, uri)
    assert len(trials_of(found)) == 2
    assert len(trained) == 3


def test_the_time_limit_holds_over_killed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, uri, clock = rows_of(), str(tmp_path / "search.jsonl"), [0.0]

    def train(*given: Any) -> Any:
        clock[0] += 10.0
        if clock[0] == 70.0:
            raise KeyboardInterrupt
        return train_head(*given)

    monkeypatch.setattr(head_search, "train_head", train)
    monkeypatch.setattr(head_search.time, "monotonic", lambda: clock[0])
    settings = searched(max_minutes=80 / 60, trials=50, prune=False)
    with pytest.raises(KeyboardInterrupt):
        choose_head(rows, settings, 3, uri)  # two trials of 30 seconds, then the third is killed
    found = choose_head(rows, settings, 3, uri)
    told = trials_of(found)
    assert [each["outcome"] for each in told] == ["completed", "completed", "stopped"]
    assert told[-1]["reason"] == "the time limit of 1.33333 minutes"
    assert clock[0] == 90.0
    assert found.search is not None
    assert "tried 3 of 50 settings beside the grid, until its time was over (1 stopped early)" in found.search.told()


def test_a_limit_that_is_over_at_once_leaves_the_grid() -> None:
    before, found = choose_head(rows_of(), GRID, 3), choose_head(rows_of(), searched(max_minutes=1e-9, trials=1), 3)
    assert found.choice == before.choice
    assert found.macro_f1 == before.macro_f1


def test_a_trial_below_the_median_is_stopped_and_cannot_win(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {0.5: [0.9, 0.9, 0.9], 0.1: [0.1]}  # the last trial is behind after the first fold
    calls: list[float] = []

    def scripted(rows: LabelledRows, scores: Any, among: Any) -> float:
        of = values[0.1 if len(calls) >= 15 else 0.5]
        calls.append(of[0])
        return of[0]

    monkeypatch.setattr(head_search, "macro_f1", scripted)
    found = choose_head(rows_of(), searched(), 3)
    assert [told["outcome"] for told in trials_of(found)] == [*["completed"] * 5, "stopped"]
    assert trials_of(found)[5]["reason"] == "below the median of the other trials after 1 of 3 folds"
    assert trials_of(found)[5]["macro_f1"] == 0.1
    assert found.macro_f1 == 0.9
    calls.clear()
    unpruned = choose_head(rows_of(), searched(prune=False), 3)
    assert [told["outcome"] for told in trials_of(unpruned)] == ["completed"] * 6


def test_a_trial_that_cannot_be_computed_fails_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise np.linalg.LinAlgError("eigenvalues did not converge")
        return train_head(*given)

    monkeypatch.setattr(head_search, "train_head", train)
    found = choose_head(rows_of(), searched(prune=False), 3)
    assert [told["outcome"] for told in trials_of(found)] == ["failed", *["completed"] * 5]
    assert trials_of(found)[0]["reason"] == "eigenvalues did not converge"
    assert "macro_f1" not in trials_of(found)[0]


def test_landmarks_and_gamma_of_the_search_are_those_of_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels = blobs(150, spread=1.0)
    settings = searched(trials=4).model_copy(update={"kinds": (HeadKind.KERNEL,)})
    monkeypatch.setattr(head_search, "macro_f1", lambda *_: 1.0)  # every trial is better than the grid
    head = fit_head(vectors, labels, settings, ORIGIN, search_uri=str(tmp_path / "search.jsonl"))
    [best] = [told for told in head.record.chosen if told.get("trial") == 1]
    assert head.record.search is not None
    assert head.record.search.best_trial == 1
    assert head.gamma == best["gamma"] != 1.0
    assert len(head.landmarks_LD) == best["num_landmarks"] <= 40
    head.save(str(tmp_path))
    stored = HEADS.find(str(tmp_path), ORIGIN.fingerprint)
    assert stored is not None
    assert stored.record == head.record
    np.testing.assert_array_equal(stored.probabilities(vectors), head.probabilities(vectors))
    rows = rows_of()
    expected = train_head(
        rows,
        HeadChoice(HeadKind.KERNEL, head.record.strength, num_landmarks=len(head.landmarks_LD), gamma=head.gamma),
        settings,
        3,
    )
    np.testing.assert_allclose(head.scores(vectors), expected.scores(rows), atol=1e-5)


def test_several_classes_a_row_are_searched_too(tmp_path: Path) -> None:
    vectors, labels = overlapping(150, noise=1.0)
    before = fit_multi_label_head(vectors, labels, GRID, ORIGIN)
    settings = searched(trials=5)
    head = fit_multi_label_head(vectors, labels, settings, ORIGIN, search_uri=str(tmp_path / "search.jsonl"))
    use = head.record.search
    assert use is not None
    assert use.num_trials == 5
    assert (
        use.macro_f1
        >= use.macro_f1_grid
        == pytest.approx(max(float(told["macro_f1"]) for told in before.record.chosen))
    )
    rows = labelled_rows(vectors, truth_matrix(labels, head.classes), {}, None, None, None)
    choice = HeadChoice(
        head.record.kind,
        head.record.strength,
        num_landmarks=len(head.landmarks_LD) or None,
        gamma=head.gamma,
    )
    assert macro_f1(rows, unseen_scores(rows, choice, settings, 3, 3)) == pytest.approx(use.macro_f1, abs=1e-5)


def test_only_rows_that_the_encoder_has_not_learned_from_score_a_trial() -> None:
    vectors, labels = blobs(200, spread=1.0)
    is_unseen = np.arange(200) >= 100
    deciding = DecidingRows(is_unseen, LearnedUse(reason="", num_seen=100, num_unseen=100))
    truth = np.array([int(label.split()[-1]) for label in labels])
    rows = labelled_rows(vectors, truth, {}, None, None, deciding)
    found = choose_head(rows, searched(prune=False), 3)
    [told] = [told for told in trials_of(found) if told["trial"] == 1]
    choice = HeadChoice(
        HeadKind(told["kind"]), told["strength"], 0.0, 0.0, told.get("num_landmarks"), told.get("gamma", 1.0)
    )
    scores = unseen_scores(rows, choice, GRID, 3, 3)
    assert told["macro_f1"] == pytest.approx(macro_f1(rows, scores), abs=1e-6)
    assert told["macro_f1"] != pytest.approx(macro_f1(rows, scores, np.arange(200)), abs=1e-6)


def test_names_of_heads_without_a_search_stay_as_they_are() -> None:
    """Hashes as the release before the search gave them."""
    assert "search" not in HeadSettings().model_dump()
    named: dict[str, Any] = {"labels_fingerprint": "l", "encoder_fingerprint": "e", "task": ""}
    plain, changed = HeadSettings(), HeadSettings(strengths=(1.0,), seed=3)
    assert head_fingerprint(**named, settings=plain, words_column="text") == "d4f3d9784eabb0ff9fde5074cb7c555b"
    assert head_fingerprint(**named, settings=changed) == "fc5818f3210a41f8f102070bb856bd7c"
    assert earlier_fingerprint(**named, settings=plain) == "c8320d0b82d80763965342ccf84ede98"
    names = {
        head_fingerprint(**named, settings=each)
        for each in (plain, SETTINGS, searched(trials=7), searched(max_minutes=1), searched(prune=False))
    }
    assert len(names) == 5
    assert earlier_fingerprint(**named, settings=HeadSettings(search=SEARCH)) is None


def test_settings_of_a_search_survive_the_way_through_json() -> None:
    asked = ClassificationSettings().with_search(7)
    assert asked.head.search == HeadSearchSettings(trials=7)
    assert ClassificationSettings.model_validate(json.loads(asked.model_dump_json())) == asked
    assert asked.with_search(0) == asked
    kept = ClassificationSettings.model_validate({"head": {"search": {"max_minutes": 5}}}).with_search(9)
    assert kept.head.search == HeadSearchSettings(trials=9, max_minutes=5)


@pytest.mark.parametrize(
    "wrong", [{"trials": 0}, {"trials": 1_001}, {"max_minutes": 0}, {"max_minutes": "inf"}, {"trys": 3}]
)
def test_a_search_that_cannot_be_done_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        HeadSearchSettings.model_validate(wrong)


def test_without_optuna_a_search_is_refused_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"a search needs Optuna, .*: pip install 'sbert-prefect\[search\]'"):
        choose_head(rows_of(), SETTINGS, 3)
    assert choose_head(rows_of(), GRID, 3).search is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "The search tried 40 settings beside the grid (12 stopped early). Trial 7 is the best: macro-F1 0.812 in "
             "cross-validation, 0.800 for the best of the grid. The best of 40 trials is too good there by chance; held-out "
             "rows tell how good it is."),
        ({"best_trial": None, "num_failed": 1}, "The search tried 40 settings beside the grid (12 stopped early, 1 failed). "
             "None is better by 0.005 than the best of the grid, which has macro-F1 0.800 in cross-validation."),
    ],
)  # fmt: skip
def test_the_outcome_is_told_in_sentences(changed: dict[str, Any], told: str) -> None:
    use = SearchUse(
        num_asked=40, num_trials=40, num_stopped=12, best_trial=7, macro_f1=0.812, macro_f1_grid=0.8, seconds=1.0
    )
    assert use.model_copy(update=changed).told() == told
