"""Wording and ranker: what they learn, that they repeat, and that they keep no words."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from sbert.apply.summaries.examples import Example, example_of
from sbert.apply.summaries.features import FEATURES, ranks_of, sentence_features
from sbert.apply.summaries.fit import fit_models
from sbert.apply.summaries.sentences import SentenceList, count_words, terms_of_texts
from sbert.apply.summaries.settings import RankerSettings
from sbert.apply.summaries.wording import count_runs, fit_wording, wording_features

SETTINGS = RankerSettings(num_networks=2, num_hidden=8, num_folds=3, learning_rate=0.01)


def sentence_list(*texts: str) -> SentenceList:
    places = np.zeros(len(texts), np.int64)
    return SentenceList(texts, places, places, count_words(texts), tuple(terms_of_texts(texts)), len(texts))


def documents(num: int, seed: int) -> list[Example]:
    """Return documents whose summary is the sentence that begins with "we propose", at any place, among random vectors."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(num):
        texts = [f"it is known that {random.integers(1_000)} {word}" for word in ("cats", "dogs", "rats", "bats")]
        texts[int(random.integers(4))] = f"We propose {number} methods"
        vectors_SD = random.normal(size=(4, 8)).astype(np.float32)
        vectors_SD /= np.linalg.norm(vectors_SD, axis=1, keepdims=True)
        made.append(example_of(sentence_list(*texts), vectors_SD, [next(text for text in texts if text[0] == "W")]))
    return made


def test_the_wording_of_summaries_is_learned_and_the_same_seed_gives_the_same_ranker() -> None:
    models, again = (fit_models(documents(24, seed=0), SETTINGS) for _ in range(2))
    unseen = documents(12, seed=1)
    scores = [models.scores(item.inputs_SI, item.runs_SW) for item in unseen]
    assert [int(item_scores.argmax()) for item_scores in scores] == [int(item.rouge_S.argmax()) for item in unseen]
    for item, item_scores in zip(unseen, scores, strict=True):
        np.testing.assert_allclose(again.scores(item.inputs_SI, item.runs_SW), item_scores, rtol=1e-5)


def test_runs_of_terms_are_counted_once_by_their_hashes() -> None:
    runs = count_runs([("a", "b", "a"), ()])
    # begin, a, b; begin a, a b, b a; begin a b, a b a: eight different runs. An empty sentence has only its beginning.
    assert runs.sum(axis=1).ravel().tolist()[0] == [8.0, 1.0]


def test_a_word_of_good_sentences_has_more_weight_than_one_of_bad_ones() -> None:
    model = fit_wording(count_runs([("good",), ("bad",)] * 3), np.array([1, -1] * 3, np.float32), penalty=1)
    good, bad, new = model.scores(count_runs([("good",), ("bad",), ("new",)]))
    assert good > new > bad
    assert good == pytest.approx(-bad, abs=1e-4)
    assert bad == pytest.approx(-good, abs=1e-4)


def test_ranks_and_features_are_finite_for_one_and_for_no_sentence() -> None:
    assert ranks_of(np.array([3, 1, 2], np.float32)).tolist() == [1, 0, 0.5]
    assert wording_features(np.ones(1, np.float32)).tolist() == [[1, 0]]
    for num in (0, 1):
        features = sentence_features(sentence_list(*["A cat."] * num), np.ones((num, 1), np.float32))
        assert features.shape == (num, len(FEATURES))
        assert np.isfinite(features).all()


def test_a_stored_ranker_holds_no_words(tmp_path: Path) -> None:
    from sbert.apply.summaries.ranker import RANKERS, LabelCounts, Ranker, RankerQuality, RankerRecord, Value

    value = Value(value=0.5, low=0.4, high=0.6)
    counts = LabelCounts(**dict.fromkeys(LabelCounts.model_fields, 0))
    quality = RankerQuality(num_documents=24, ranker=value, lexrank=value, first=0.1, gain=value)
    record = RankerRecord(fingerprint="f", encoder_fingerprint="e", labels=counts, quality=quality)
    ranker = Ranker(record, fit_models(documents(6, seed=0), SETTINGS))
    ranker.save(str(tmp_path))
    stored = RANKERS.find(str(tmp_path), "f")
    assert stored is not None
    item = documents(1, seed=2)[0]
    wanted = ranker.scores(item.sentences, item.vectors_SD)
    np.testing.assert_array_equal(stored.scores(item.sentences, item.vectors_SD), wanted)
    folder = tmp_path / "_rankers" / "f"
    assert all(
        tensor.dtype.kind == "f" for tensor in safetensors.numpy.load_file(folder / "ranker.safetensors").values()
    )
    assert "propose" not in (folder / "ranker.json").read_text()
    assert RANKERS.find(str(tmp_path), "g") is None
