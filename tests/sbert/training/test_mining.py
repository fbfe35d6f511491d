"""Hard negatives, the classifier, and what keeps old skills."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flows.refresh import refresh_embeddings
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ColumnError, ModelError, SettingsError, TooFewLabelsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.table.delta import Table
from sbert.training import mining, training_run
from sbert.training.classifier import SentenceClassifier
from sbert.training.continual import average_with, mix_rows
from sbert.training.mining import Corpus, add_negatives, mine_negatives, open_table, read_corpus
from sbert.training.settings import NegativesSettings, TrainingSettings
from sbert.training.train import train_encoder
from tests.support.tiny_models import save_tiny, tiny_encoder
from tests.support.toy_training import FAST, toy_labels, toy_rows

PAIRS = pl.DataFrame(
    {
        "anchor": ["how do i reset my password", "a train to hamburg is late", "how do i reset my password"],
        "positive": ["forgot login", "rain delay", "reset account"],
    }
)
TEXTS = pl.Series(
    ["forgot login", "Reset account!", "rain delay", "the cat sat on mat", "butter cake tin", "oven butter", "red green blue",
     "select name from users", "connection refused", "she won match", "a train to hamburg is late"]
)  # fmt: skip


def corpus(encoder: SentenceEncoder) -> Corpus:
    return Corpus(TEXTS, encoder.encode(TEXTS))


def test_negatives_are_the_nearest_that_are_no_positives() -> None:
    encoder = tiny_encoder()
    settings = NegativesSettings(per_anchor=2, skip_nearest=1, search_depth=20, relative_margin=0)
    settings = settings.model_copy(update={"max_score": None})
    mined = mine_negatives(PAIRS, corpus(encoder), encoder, settings)
    scores = encoder.encode(PAIRS["anchor"]) @ encoder.encode(TEXTS).T
    own = [{0, 1}, {2, 10}, {0, 1}]  # positives of the anchor, and the anchor itself
    limits = (encoder.encode(PAIRS["anchor"]) * encoder.encode(PAIRS["positive"])).sum(1)
    expected = []
    for row in range(3):
        order = [text for text in np.argsort(-scores[row]) if text not in own[row]][1:]
        fitting = [TEXTS[int(text)] for text in order if scores[row, text] <= limits[row]][:2]
        if len(fitting) == 2:
            expected.append((PAIRS["anchor"][row], PAIRS["positive"][row], *fitting))
    assert expected
    assert mined.select("anchor", "positive", "negative", "negative_2").rows() == expected


def test_negatives_are_no_more_and_no_nearer_than_the_limits_allow() -> None:
    encoder = tiny_encoder()
    everything = corpus(encoder)
    mined = mine_negatives(PAIRS, everything, encoder, NegativesSettings(per_anchor=1, max_score=0.1))
    cosines = (encoder.encode(mined["anchor"]) * encoder.encode(mined["negative"])).sum(1)
    assert (cosines <= 0.1 + 1e-6).all()
    assert mine_negatives(PAIRS, everything, encoder, NegativesSettings(per_anchor=1, max_score=-1.0)).height == 0


def test_negatives_come_from_the_current_table(prefect_server: None, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    pl.DataFrame({"text": TEXTS}).write_ndjson(tmp_path / "raw.jsonl")
    refresh_embeddings(str(tmp_path / "raw.jsonl"), str(tmp_path / "table"), model=model, keep_columns=["text"])
    stored = read_corpus(Table.open(str(tmp_path / "table")))
    assert sorted(stored.texts) == sorted(TEXTS)
    encoder = SentenceEncoder.from_pretrained(model, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    np.testing.assert_allclose(stored.vectors_TD, encoder.encode(stored.texts), atol=1e-5)
    settings = NegativesSettings(per_anchor=1, relative_margin=0)
    assert mine_negatives(PAIRS, stored, encoder, settings).height > 0
    with pytest.raises(ColumnError, match="no column 'body'; it keeps: text"):
        read_corpus(Table.open(str(tmp_path / "table")), "body")
    with pytest.raises(SettingsError, match="negatives are mined from at most 5 rows, but the table has 11"):
        read_corpus(Table.open(str(tmp_path / "table")), max_rows=5)


def pair_labels(num_rows: int = 60) -> LabelSet:
    return toy_labels(LabelKind.PAIRS, num_rows, dev_share=0.0)


def test_training_mines_in_the_table_that_is_named(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, raw, table = save_tiny(tmp_path / "model"), tmp_path / "raw.jsonl", str(tmp_path / "table")
    pl.DataFrame({"body": TEXTS}).write_ndjson(raw)
    refresh_embeddings(str(raw), table, model=model, text_column="body", keep_columns=["body"])
    seen: list[pl.DataFrame] = []
    real = training_run.make_training_data

    def spy(rows: pl.DataFrame, *arguments: Any, **options: Any) -> Any:
        seen.append(rows)
        return real(rows, *arguments, **options)

    monkeypatch.setattr(training_run, "make_training_data", spy)
    negatives = NegativesSettings(per_anchor=2, relative_margin=0, table_uri=table, text_column="body")
    settings = TrainingSettings(max_steps=1, negatives=negatives, **FAST)
    first = train_encoder(model, pair_labels(), settings, tmp_path / "1", checkpoints_uri=str(tmp_path / "store"))
    again = train_encoder(model, pair_labels(), settings, tmp_path / "2", checkpoints_uri=str(tmp_path / "store"))
    assert first.checkpoints_uri == again.checkpoints_uri
    for name in ("negative", "negative_2"):
        assert set(seen[0][name]) <= set(TEXTS)
    pl.DataFrame({"body": [*TEXTS, "nine ten eleven"]}).write_ndjson(raw)
    refresh_embeddings(str(raw), table, text_column="body", keep_columns=["body"])
    newer = train_encoder(model, pair_labels(), settings, tmp_path / "3", checkpoints_uri=str(tmp_path / "store"))
    assert newer.checkpoints_uri != first.checkpoints_uri  # its negatives may be others


def test_vectors_of_the_table_are_used_where_they_are_the_encoders(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, table = save_tiny(tmp_path / "model"), str(tmp_path / "table")
    pl.DataFrame({"text": TEXTS}).write_ndjson(tmp_path / "raw.jsonl")
    refresh_embeddings(str(tmp_path / "raw.jsonl"), table, model=model, keep_columns=["text"])
    settings = NegativesSettings(per_anchor=1, relative_margin=0, table_uri=table)
    encoded: list[int] = []
    real = SentenceEncoder.encode

    def spy(self: SentenceEncoder, texts: Any, **options: Any) -> Any:
        encoded.append(len(texts))
        return real(self, texts, **options)

    monkeypatch.setattr(SentenceEncoder, "encode", spy)
    for seed, expected in ((0, [3, 3]), (5, [11, 3, 3])):
        folder = save_tiny(tmp_path / str(seed), seed=seed)
        encoder = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
        encoded.clear()
        kind, mined = add_negatives(PAIRS, LabelKind.PAIRS, encoder, settings, open_table(settings))
        assert kind is LabelKind.TRIPLETS
        assert encoded == expected
        fresh = Corpus(TEXTS, encoder.encode(TEXTS))
        assert mined.rows() == mine_negatives(PAIRS, fresh, encoder, settings).rows()


def test_negatives_do_not_depend_on_how_many_scores_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, settings = tiny_encoder(), NegativesSettings(per_anchor=1, relative_margin=0)
    expected = mine_negatives(PAIRS, corpus(encoder), encoder, settings)
    monkeypatch.setattr(mining, "SCORES_AT_ONCE", 5)
    assert mine_negatives(PAIRS, corpus(encoder), encoder, settings).rows() == expected.rows()


def test_an_empty_corpus_has_no_negatives() -> None:
    empty = Corpus(pl.Series([], dtype=pl.String), np.zeros((0, 32), dtype=np.float32))
    assert mine_negatives(PAIRS, empty, tiny_encoder(), NegativesSettings(per_anchor=1)).is_empty()


def test_logistic_regression_is_scikit_learn_and_survives_saving(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    rows, encoder = toy_rows(LabelKind.CLASSES, 100), tiny_encoder()
    classifier = SentenceClassifier.fit(encoder, rows["text"], rows["label"].to_list())
    reference = LogisticRegression(C=10.0, max_iter=1000).fit(encoder.encode(rows["text"]), rows["label"].to_list())
    expected = reference.predict_proba(encoder.encode(rows["text"]))
    np.testing.assert_allclose(classifier.probabilities(rows["text"]), expected, atol=1e-4)
    classifier.save(tmp_path)
    again = SentenceClassifier.load(tmp_path)
    assert again.predict(rows["text"]) == reference.predict(encoder.encode(rows["text"])).tolist()


def test_two_classes_have_the_probabilities_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rows, encoder = toy_rows(LabelKind.CLASSES, 100).filter(pl.col("label") < "topic 2"), tiny_encoder()
    labels = rows["label"].to_list()
    reference = LogisticRegression(C=10.0, max_iter=1000).fit(encoder.encode(rows["text"]), labels)
    probabilities = SentenceClassifier.fit(encoder, rows["text"], labels).probabilities(rows["text"])
    np.testing.assert_allclose(probabilities, reference.predict_proba(encoder.encode(rows["text"])), atol=1e-4)


def test_classifier_needs_two_classes_and_a_head(tmp_path: Path) -> None:
    with pytest.raises(TooFewLabelsError, match="all 2 texts are of one class"):
        SentenceClassifier.fit(tiny_encoder(), ["the cat", "a dog"], ["x", "x"])
    with pytest.raises(ModelError, match="no classifier here"):
        SentenceClassifier.load(save_tiny(tmp_path))


def test_replay_mixes_new_rows_with_the_wanted_share_of_earlier_ones() -> None:
    rows = toy_rows(LabelKind.CLASSES, 300).unique("text", maintain_order=True)
    marked = rows.with_columns(pl.Series("object", ["old"] * 200 + ["new"] * (rows.height - 200)))
    settings = LabelSettings(dev_share=0, test_share=0, near_duplicate_similarity=1)
    labels = make_label_set(marked, LabelKind.CLASSES, settings)
    num_new = labels.train.filter(object="new").height
    mixed = mix_rows(labels, frozenset({"old"}), 0.5, seed=0)
    assert mixed.filter(object="new").height == num_new
    assert mixed.filter(object="old").height == pytest.approx(num_new, abs=1)
    assert mix_rows(labels, frozenset({"old"}), 0.0, seed=0)["object"].unique().to_list() == ["new"]
    assert mix_rows(labels, frozenset(), 0.5, seed=0).height == labels.train.height
    assert mix_rows(labels, frozenset({"old", "new"}), 0.5, seed=0).height == labels.train.height  # nothing is new


def test_average_of_weights_is_the_interpolation(tmp_path: Path) -> None:
    base = save_tiny(tmp_path, seed=1)
    trained = tiny_encoder(seed=2)
    after = {name: each.clone() for name, each in trained.state_dict().items()}
    before = SentenceEncoder.from_pretrained(base, device="cpu", compute_dtype=ComputeDtype.FLOAT32).state_dict()
    average_with(base, trained, 0.75)
    for name, each in trained.state_dict().items():
        if each.is_floating_point():
            np.testing.assert_allclose(each, 0.75 * after[name] + 0.25 * before[name], atol=1e-6)
