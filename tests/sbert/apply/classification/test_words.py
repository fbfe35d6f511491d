"""A head reads words beside the vectors where they help, stores them readably, and heads of earlier releases stay in use."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from sbert.apply.classification import head_fitting, head_kinds, heads
from sbert.apply.classification.fit import earlier_fingerprint, fit_head, head_fingerprint
from sbert.apply.classification.head import HEADS, Head
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import NEWER, ClassificationSettings, HeadKind, HeadSettings
from sbert.apply.classification.words import HeadWords, count_terms, train_words
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, TableError
from sbert.table.delta import Table
from tests.sbert.apply.classification.blobs import ORIGIN, blobs
from tests.support.made_tables import make_version, unit_vector

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2)
SETTINGS = ClassificationSettings(head=QUICK, text_column="kind")


def telling(numbers: range) -> tuple[list[str], list[str]]:
    """Return texts of which one word tells the class, and the classes."""
    labels = [("fell", "rose")[number % 2] for number in numbers]
    return [f"profit {label} by {number % 7} percent" for number, label in zip(numbers, labels, strict=True)], labels


def fitted(vectors: np.ndarray, labels: list[str], texts: list[str] | None, settings: HeadSettings = QUICK) -> Head:
    return fit_head(vectors, labels, settings, ORIGIN, words=texts and HeadWords("text", texts))


def right(head: Head, vectors: np.ndarray, labels: list[str], texts: list[str] | None = None) -> float:
    return float((np.array(head.classes)[head.scores(vectors, texts).argmax(axis=1)] == labels).mean())


def test_words_are_weighed_as_by_scikit_learn() -> None:
    random = np.random.default_rng(0)
    vocabulary = ["up", "down", "a", "the", "market", "share", "Zürich", "2-1"]
    texts = [" ".join(random.choice(vocabulary, random.integers(1, 9))) for _ in range(120)]
    truth = np.array([int("up" in text.split()) for text in texts], np.int64)

    def terms(text: str) -> list[str]:
        words = text.lower().replace("ü", "u").replace("2-1", "2 1 2-1").split()
        return [*words, *(f"{one} {two}" for one, two in itertools.pairwise(words))]

    vectorizer = TfidfVectorizer(analyzer=terms, min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=3.0, max_iter=1_000, tol=1e-4).fit(vectorizer.fit_transform(texts[:80]), truth[:80])
    counts = count_terms(texts)
    trained = train_words(counts.take(np.arange(80)), truth[:80], 3.0, num_classes=2, max_terms=1_000)
    scores = trained.scores(counts.take(np.arange(80, 120)))
    expected = model.decision_function(vectorizer.transform(texts[80:]))
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], expected, atol=1e-3)


def test_words_tell_what_vectors_do_not_and_come_back_from_storage(tmp_path: Path) -> None:
    vectors, _ = blobs(200)
    texts, labels = telling(range(200))
    head = fitted(vectors[:150], labels[:150], texts[:150])
    assert right(fitted(vectors[:150], labels[:150], None), vectors[150:], labels[150:]) < 0.7
    assert right(head, vectors[150:], labels[150:], texts[150:]) == 1
    use = head.record.words
    assert use is not None
    assert use.weight > 0
    assert use.macro_f1 > use.macro_f1_without + 0.3
    assert head.words is not None
    assert head.words.speaking(head.classes)["rose"][0] in {"rose", "profit rose", "rose by"}
    head.save(str(tmp_path))
    again = HEADS.find(str(tmp_path), "f" * 32)
    assert again is not None
    assert again.record == head.record
    unseen = [*texts[150:199], None]
    np.testing.assert_array_equal(again.scores(vectors[150:], unseen), head.scores(vectors[150:], unseen))
    with pytest.raises(ValueError, match="reads words: give the texts of the rows"):
        head.scores(vectors)


def test_the_score_of_a_text_does_not_depend_on_the_texts_beside_it() -> None:
    vectors, _ = blobs(100)
    texts, labels = telling(range(100))
    head = fitted(vectors, labels, texts)
    together = head.scores(vectors[:3], ["", "profit rose by never seen", "rose rose 株価が上がる"])
    alone = head.scores(vectors[1:2], ["profit rose by never seen"])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    assert head.words is not None
    np.testing.assert_allclose(head.words.scores(["", "never seen"]), [head.words.bias_C] * 2, atol=1e-6)


def test_words_that_tell_nothing_are_not_read() -> None:
    vectors, labels = blobs(200, spread=0.3)
    texts = [f"the number {number % 11}" for number in range(200)]
    head = fitted(vectors, labels, texts)
    assert head.words is None
    assert head.words_column == ""
    assert head.record.words is not None
    assert head.record.words.weight == 0
    assert {float(item.get("words", 0)) for item in head.record.chosen} > {0.0}  # they were tried
    plain = fitted(vectors, labels, None)
    np.testing.assert_array_equal(head.weights_FC, plain.weights_FC)


def test_a_head_reads_no_more_terms_than_allowed_those_of_most_texts() -> None:
    texts = [f"word{number % 200} common rare{number}" for number in range(400)]
    counts = count_terms(texts)
    truth = np.arange(400) % 2
    trained = train_words(counts, truth, 1.0, num_classes=2, max_terms=100)
    assert len(trained.columns_V) == 100
    assert "common" in counts.terms_V.gather(trained.columns_V)
    assert not any("rare" in term for term in counts.terms_V)  # each is in one text


def test_texts_without_a_common_term_and_no_texts_at_all_are_no_error() -> None:
    vectors, labels = blobs(60)
    head = fitted(vectors, labels, [f"word{number}" for number in range(60)])
    assert head.words is None
    once = count_terms(["up", "up", "down"]).take(np.array([0, 2]))  # each term is in one of these texts
    trained = train_words(once, np.array([0, 1]), 1.0, num_classes=2, max_terms=100)
    assert trained.scores(once).tolist() == [[0, 0], [0, 0]]
    texts, classes = telling(range(60))
    reading = fitted(vectors, classes, texts)
    assert reading.scores(vectors[:0], []).shape == (0, 2)


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    counts = count_terms(["x " * 3_000 + "end"] * 2)
    assert counts.terms_V.to_list() == ["x", "x x"]


def test_a_class_that_is_not_in_a_part_of_cross_validation_is_still_scored() -> None:
    vectors, _ = blobs(42)
    texts, labels = telling(range(40))
    head = fitted(vectors, [*labels, "other", "other"], [*texts, "something else", "something else again"])
    assert head.confusion.sum() == 42
    assert np.isfinite(head.scores(vectors[:1], ["something else"])).all()


def test_whether_words_may_be_read_is_part_of_the_name_and_earlier_names_stay() -> None:
    names = [
        head_fingerprint("l", "e", "", HeadSettings()),
        head_fingerprint("l", "e", "", HeadSettings(), words_column="text"),
        head_fingerprint("l", "e", "", HeadSettings(), words_column="body"),
        head_fingerprint("l", "e", "", HeadSettings(max_terms=100), words_column="text"),
    ]
    assert len(set(names)) == 4
    assert names[1] == "d4f3d9784eabb0ff9fde5074cb7c555b"  # as the release before classifiers of encoders named it
    assert earlier_fingerprint("l", "e", "", HeadSettings()) == "c8320d0b82d80763965342ccf84ede98"
    assert earlier_fingerprint("l", "e", "", HeadSettings(max_terms=100)) is None
    assert HeadSettings().model_dump().keys() == HeadSettings.model_fields.keys() - NEWER.keys()


def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Return a table whose kept column tells the class, labels, and a place for the output."""
    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)
    make_version(str(tmp_path / "table"), {"a": {str(number): number for number in range(1_000, 1_060)}})
    rows = [
        {
            "text": f"kind {number % 3} as {number}",
            "label": "zero" if number % 3 == 0 else "other",
            "split": "test" if number % 4 == 0 else "train",
        }
        for number in range(300)
    ]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "table"), str(labels), str(tmp_path / "out")


def run(places: tuple[str, str, str], settings: ClassificationSettings = SETTINGS) -> ClassificationReport:
    return classify(*places, settings)


def test_the_words_of_the_rows_decide_their_class_at_the_cost_of_what_changed(places: tuple[str, str, str]) -> None:
    report = run(places)
    head = report.tasks[0].head
    assert head.words_column == "kind"
    rows = DerivedTable.open(places[2]).scan().collect()
    assert isinstance(rows, pl.DataFrame)
    rows_with_text = rows.filter(pl.col("id").cast(pl.Int64) % 5 != 4)  # every fifth row has no text
    truth = ["zero" if int(number) % 3 == 0 else "other" for number in rows_with_text["id"]]
    assert (rows_with_text["label"] == pl.Series(truth)).mean() > 0.95
    assert "by_rules" not in rows.columns
    assert run(places).output.num_rows_built == 0
    make_version(places[0], {name: {str(n): n for n in numbers} for name, numbers in
                             {"a": range(1_000, 1_060), "b": range(2_000, 2_005)}.items()})  # fmt: skip
    assert run(places).output.num_rows_built == 5
    page = Path(report.report_uri).read_text()
    assert "words that speak most for it" in page
    assert "kind 0" in page
    assert "of the column kind: macro-F1 of cross-validation is" in page


def test_without_kept_text_or_with_words_off_a_head_reads_vectors_alone(places: tuple[str, str, str]) -> None:
    for settings in (
        SETTINGS.model_copy(update={"text_column": None}),  # the table keeps no column called text
        SETTINGS.model_copy(update={"head": QUICK.model_copy(update={"words": False})}),
    ):
        head = run(places, settings).tasks[0].head
        assert head.words is None
        assert head.words_column == ""
        assert head.told_words().startswith("The head reads vectors alone: the table kept no text")


@pytest.mark.parametrize("column", ["absent", "price"])
@pytest.mark.parametrize("words", [True, False])
def test_a_text_column_that_the_table_does_not_keep_is_refused(
    places: tuple[str, str, str], column: str, words: bool
) -> None:
    head = QUICK.model_copy(update={"words": words})
    with pytest.raises(ColumnError, match=rf"no kept column of texts '{column}' \(kept: kind, price"):
        run(places, ClassificationSettings(head=head, text_column=column))
    assert not Path(places[2]).exists()


def first_name(*given: Any, **_: Any) -> str | None:
    """Name a head as the release before words did."""
    return earlier_fingerprint(*given)


def without_words(*given: Any, words: HeadWords | None, **named: Any) -> Head:
    """Fit a head as the release before words did."""
    return fit_head(*given, **named)


def test_a_head_of_an_earlier_release_stays_until_labels_or_settings_change(
    places: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:  # as the release before named and fitted heads
        earlier.setattr(head_fitting, "head_fingerprint", first_name)
        earlier.setattr(head_kinds, "fit_head", without_words)
        before = run(places)
    assert before.tasks[0].head.words is None
    after = run(places)
    assert after.output.num_rows_built == 0
    assert not after.tasks[0].head.is_new
    assert after.tasks[0].head.fingerprint == before.tasks[0].head.fingerprint
    changed = run(places, SETTINGS.model_copy(update={"head": QUICK.model_copy(update={"seed": 1})}))
    assert changed.tasks[0].head.is_new
    assert changed.tasks[0].head.words_column == "kind"
    assert "held-out rows" in changed.tasks[0].head.reason


def test_a_head_whose_texts_the_table_no_longer_keeps_is_replaced(places: tuple[str, str, str]) -> None:
    first = run(places)
    head = HEADS.find(places[2], first.tasks[0].head.fingerprint)
    assert head is not None
    assert head.record.words is not None
    outdated = head.record.model_copy(update={"words": head.record.words.model_copy(update={"column": "gone"})})
    replace(head, record=outdated).save(places[2])  # the column that it reads is no longer kept
    second = run(places, SETTINGS.model_copy(update={"text_column": None}))
    assert second.tasks[0].head.is_new
    assert "no longer keeps the texts that it reads" in second.tasks[0].head.reason


def test_words_that_do_not_fit_their_weights_are_named(tmp_path: Path) -> None:
    vectors, _ = blobs(60)
    texts, labels = telling(range(60))
    head = fitted(vectors, labels, texts)
    assert head.words is not None
    replace(head, words=replace(head.words, idf_V=head.words.idf_V[1:])).save(str(tmp_path))
    with pytest.raises(TableError, match=r"terms have .* inverse document frequencies"):
        HEADS.find(str(tmp_path), "f" * 32)
