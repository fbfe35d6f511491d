"""Training and its dev metric use the prompts that refresh and search use for the same texts."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.labels.label_kinds import TEXT_COLUMNS, LabelKind, side_of
from sbert.labels.label_set import LabelSet
from sbert.training.batches import BatchGrouping, BatchPlan
from sbert.training.checkpoints import run_fingerprint
from sbert.training.classifier import SentenceClassifier
from sbert.training.collating import Collator, WordDeletion
from sbert.training.dev_metric import default_dev_metric
from sbert.training.losses.ranking import RankingLoss
from sbert.training.module import TrainingModule
from sbert.training.settings import Objective
from sbert.training.training_data import TrainingData, make_training_data
from tests.support.tiny_models import prompted_encoder, tiny_encoder
from tests.support.toy_training import toy_labels, toy_rows

ROWS = 16


def batch_of(source: TrainingData, **more: Any) -> dict[str, Any]:
    planned = BatchPlan(source.content_ids_NC, None, grouping=BatchGrouping.RANDOM, batch_size=ROWS, seed=0)
    return Collator(source, planned, 1, token_budget=64, **more)(list(range(ROWS)))


def trained_vectors(encoder: SentenceEncoder, batch: dict[str, Any]) -> np.ndarray:
    """Return the vectors whose loss is taken, column after column."""
    module = TrainingModule(encoder, RankingLoss())
    prompts = batch.get("num_prompt_tokens", [0] * len(batch["input_ids"]))
    with torch.no_grad():
        parts = zip(batch["input_ids"], batch["attention_mask"], prompts, strict=True)
        return torch.cat([module._encode(*part) for part in parts])[batch["places"]].numpy()


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("kind", [LabelKind.PAIRS, LabelKind.TRIPLETS, LabelKind.SCORED_PAIRS, LabelKind.NLI])
def test_texts_are_trained_with_the_prompt_of_their_side(kind: LabelKind, include_prompt: bool) -> None:
    encoder = prompted_encoder(include_prompt=include_prompt)
    rows = toy_rows(kind, 40)
    objective = {LabelKind.NLI: Objective.SOFTMAX, LabelKind.SCORED_PAIRS: Objective.COSENT}.get(
        kind, Objective.RANKING
    )
    trained = trained_vectors(encoder, batch_of(make_training_data(rows, kind, objective, encoder)))
    expected = [encoder.encode(rows[name][:ROWS], side=side_of(name)) for name in TEXT_COLUMNS[kind]]
    np.testing.assert_allclose(trained, np.concatenate(expected), atol=1e-5)


def test_an_anchor_is_a_query_and_every_other_text_a_document() -> None:
    columns = {name for names in TEXT_COLUMNS.values() for name in names} | {"negative_2"}
    assert {name for name in columns if side_of(name) is Side.QUERY} == {"anchor"}


def test_encoders_without_prompts_train_on_the_tokens_they_always_did() -> None:
    encoder, rows = tiny_encoder(), toy_rows(LabelKind.PAIRS, 40)
    encoder.prompts, encoder.default_prompt_name = {"title": "red "}, "title"  # of neither side
    source = make_training_data(rows, LabelKind.PAIRS, Objective.RANKING, encoder)
    texts = pl.concat([rows["anchor"], rows["positive"]]).unique(maintain_order=True)
    np.testing.assert_array_equal(source.tokens.input_ids, encoder.tokenize(texts).input_ids)
    np.testing.assert_array_equal(source.text_ids_NC, source.content_ids_NC)
    assert "num_prompt_tokens" not in batch_of(source)


def test_a_text_on_both_sides_has_two_token_sequences_and_one_content_number() -> None:
    rows = pl.DataFrame({"anchor": ["red blue", "the cat"], "positive": ["the cat", "a train"]})
    source = make_training_data(rows, LabelKind.PAIRS, Objective.RANKING, prompted_encoder())
    assert source.text_ids_NC[0, 1] != source.text_ids_NC[1, 0]
    assert source.content_ids_NC[0, 1] == source.content_ids_NC[1, 0]  # the rows must not meet in a batch


def test_word_deletion_keeps_prompts_whole() -> None:
    encoder = prompted_encoder()
    rows = toy_rows(LabelKind.PAIRS, 40)
    source = make_training_data(rows, LabelKind.PAIRS, Objective.TSDAE, encoder)
    batch = batch_of(source, deletion=WordDeletion(encoder.hf_tokenizer, 0.9, 0))
    heads = {tuple(encoder.tokenize([prompt]).input_ids[:-1].tolist()) for prompt in encoder.prompts.values()}
    beginnings = {tuple(ids[: len(next(iter(heads)))].tolist()) for part in batch["input_ids"] for ids in part}
    assert beginnings <= heads


def test_a_teacher_uses_its_own_prompts() -> None:
    teacher = prompted_encoder(seed=1, include_prompt=False)
    rows = toy_rows(LabelKind.PAIRS, 40)
    source = make_training_data(rows, LabelKind.PAIRS, Objective.RANKING, tiny_encoder(), teacher=teacher)
    assert source.teacher_TD is not None
    for column, name in enumerate(("anchor", "positive")):
        expected = teacher.encode(rows[name], side=side_of(name))
        np.testing.assert_allclose(source.teacher_TD[source.text_ids_NC[:, column]], expected, atol=1e-5)


def test_the_default_dev_metric_encodes_anchors_as_queries() -> None:
    labels, encoder = toy_labels(LabelKind.TRIPLETS), prompted_encoder()
    rows = labels.dev.sort("row_id")
    vectors = {name: encoder.encode(rows[name], side=side_of(name)) for name in TEXT_COLUMNS[LabelKind.TRIPLETS]}
    near, far = ((vectors["anchor"] * vectors[name]).sum(axis=1) for name in ("positive", "negative"))
    assert default_dev_metric(labels)(encoder) == pytest.approx(float((near > far).mean()))


@pytest.mark.parametrize("kind", [kind for kind in LabelKind if kind is not LabelKind.TRIPLETS])
def test_the_default_dev_metric_depends_on_the_prompts(kind: LabelKind) -> None:
    labels: LabelSet = toy_labels(kind, 400)
    with_prompts, without = prompted_encoder(), prompted_encoder()
    without.prompts = {}
    metric = default_dev_metric(labels)
    assert metric(with_prompts) != metric(without)


def test_a_classifier_reads_documents() -> None:
    encoder, rows = prompted_encoder(), toy_rows(LabelKind.CLASSES, 60)
    classifier = SentenceClassifier.fit(encoder, rows["text"], rows["label"].to_list())
    logits = encoder.encode(rows["text"], side=Side.DOCUMENT) @ classifier.weight_CD.T + classifier.bias_C
    names = [classifier.classes[number] for number in logits.argmax(axis=1)]
    assert classifier.predict(rows["text"]) == names


def test_prompts_belong_to_the_fingerprint_of_a_run_and_their_absence_changes_nothing() -> None:
    def fingerprint(prompts: dict[str, str]) -> str:
        return run_fingerprint("base", "labels", ["a"], "{}", None, 1, prompts)

    assert fingerprint({}) == fingerprint({"query": "", "document": ""}) == "724e0d25a5fdfcfce86de25fb72ecf3e"
    assert fingerprint({"query": "red "}) != fingerprint({})
