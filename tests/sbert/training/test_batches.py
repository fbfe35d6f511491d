"""Batches: which rows, what tensors, and gradients that do not depend on how a batch is cut."""

from typing import Any

import numpy as np
import pytest
import torch

from sbert.errors import TooFewLabelsError
from sbert.labels.label_kinds import LabelKind
from sbert.training.batches import BatchGrouping, BatchPlan
from sbert.training.collating import Collator, WordDeletion
from sbert.training.losses.ranking import RankingLoss
from sbert.training.module import TrainingModule
from sbert.training.settings import Objective
from sbert.training.training_data import TrainingData, make_training_data
from tests.support.tiny_models import tiny_encoder
from tests.support.toy_training import toy_rows

LABELS = np.array([0] * 3 + [1] * 40 + [2] * 40 + [3] * 37)
TEXTS = np.stack([np.arange(120), np.arange(120) // 4 + 1000], axis=1)


def plan(grouping: BatchGrouping = BatchGrouping.RANDOM, **more: Any) -> BatchPlan:
    settings = {"batch_size": 16, "seed": 3, "classes_per_batch": 4, **more}
    return BatchPlan(TEXTS, LABELS, grouping=grouping, **settings)


@pytest.mark.parametrize("grouping", list(BatchGrouping))
def test_batches_follow_from_seed_and_epoch(grouping: BatchGrouping) -> None:
    one, again, other = plan(grouping), plan(grouping), plan(grouping, seed=4)
    again.batches(5)  # what was made before does not matter
    assert [batch.tolist() for batch in one.batches(2)] == [batch.tolist() for batch in again.batches(2)]
    assert [batch.tolist() for batch in one.batches(2)] != [batch.tolist() for batch in one.batches(3)]
    assert [batch.tolist() for batch in one.batches(2)] != [batch.tolist() for batch in other.batches(2)]
    assert len(one.batches(0)) == len(one) == 120 // 16
    assert {len(batch) for batch in one.batches(0)} == {16}
    assert all(len(set(batch.tolist())) == 16 for batch in one.batches(0))


def test_processes_share_out_the_batch_of_one() -> None:
    whole = plan()
    parts = [plan(process=number, num_processes=2) for number in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch == first + second


def test_no_text_is_twice_in_a_batch() -> None:
    for batch in plan(BatchGrouping.DISTINCT_TEXTS).batches(0):
        texts = TEXTS[batch].ravel()
        assert len(set(texts.tolist())) == len(texts)
    assert any(len(set(TEXTS[batch, 1].tolist())) < 16 for batch in plan().batches(0))


def test_batches_of_classes_hold_several_of_each() -> None:
    for batch in plan(BatchGrouping.CLASSES).batches(0):
        counts = np.bincount(LABELS[batch], minlength=4)
        assert counts[1:].min() >= 4
        assert counts[0] <= 3


def test_fewer_rows_than_processes_are_refused() -> None:
    with pytest.raises(TooFewLabelsError, match="1 rows make no batch for 2 processes"):
        BatchPlan(TEXTS[:1], None, grouping=BatchGrouping.RANDOM, batch_size=4, seed=0, num_processes=2)


ENCODER = tiny_encoder()


def data(objective: Objective = Objective.RANKING, kind: LabelKind = LabelKind.PAIRS) -> TrainingData:
    return make_training_data(toy_rows(kind, 60), kind, objective, ENCODER)


def make_collator(source: TrainingData, **more: Any) -> Collator:
    planned = BatchPlan(source.text_ids_NC, None, grouping=BatchGrouping.RANDOM, batch_size=16, seed=0)
    return Collator(source, planned, 1, **{"token_budget": 64, **more})


def test_parts_put_together_are_the_vectors_of_the_texts() -> None:
    source, encoder = data(), ENCODER
    rows = list(range(16))
    batch = make_collator(source)(rows)
    assert len(batch["input_ids"]) > 2
    assert all(ids.numel() <= 64 for ids in batch["input_ids"])
    with torch.no_grad():
        parts = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        vectors = torch.cat([encoder(ids, mask) for ids, mask in parts])[batch["places"]]
    labels = toy_rows(LabelKind.PAIRS, 60)
    expected = np.concatenate([encoder.encode(labels[name][:16]) for name in ("anchor", "positive")])
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-5)


def gradients(cached: bool, max_texts: int | None, *, train: bool = False) -> tuple[dict[str, torch.Tensor], float]:
    """Gradients of one ranking step, and the bytes that autograd kept for it."""
    source = data()
    ENCODER.zero_grad()
    module = TrainingModule(ENCODER, RankingLoss(), cache_gradients=cached).train(train)
    batch = make_collator(source, token_budget=10_000, max_texts=max_texts)(list(range(32)))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module(**batch)
    loss.backward()
    gradient_by_name = {name: each.grad for name, each in module.named_parameters() if each.grad is not None}
    module.eval()
    return gradient_by_name, sum(kept.values())


def test_gradient_caching_gives_the_gradients_of_the_whole_batch() -> None:
    whole, bytes_whole = gradients(cached=False, max_texts=None)
    cached, bytes_cached = gradients(cached=True, max_texts=8)
    assert whole.keys() == cached.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-5)
    assert bytes_cached < bytes_whole / 3


def test_gradient_caching_draws_the_same_dropout_twice() -> None:
    plain, _ = gradients(cached=False, max_texts=8, train=True)
    cached, _ = gradients(cached=True, max_texts=8, train=True)
    for name, gradient in plain.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-6)


def test_word_deletion_deletes_whole_words_and_keeps_one() -> None:
    encoder = tiny_encoder()
    texts = ["how do i reset my password"] * 400 + ["photosynthesis"]
    tokens = encoder.tokenize(texts)
    delete = WordDeletion(encoder.hf_tokenizer, 0.6, seed=0)
    words_kept = []
    for number in range(len(texts)):
        ids = tokens.input_ids[tokens.offsets[number] : tokens.offsets[number + 1]]
        left = delete(ids, 0, number)
        assert left[0] == ids[0]
        assert left[-1] == ids[-1]
        words = encoder.hf_tokenizer.decode(left, skip_special_tokens=True).split()
        assert words
        assert set(words) <= set(texts[number].split())
        words_kept.append(len(words))
    assert np.mean(words_kept[:400]) == pytest.approx(6 * 0.4, abs=0.3)
    first = tokens.input_ids[: tokens.offsets[1]]
    np.testing.assert_array_equal(delete(first, 1, 0), delete(first, 1, 0))
    assert any(not np.array_equal(delete(first, 0, 0), delete(first, epoch, 0)) for epoch in range(1, 9))


def test_tsdae_targets_are_the_whole_texts() -> None:
    encoder, source = ENCODER, data(Objective.TSDAE, LabelKind.TEXTS)
    batch = make_collator(source, deletion=WordDeletion(encoder.hf_tokenizer, 0.6, 0))([0, 1, 2, 3])
    for row, ids in enumerate(batch["labels"]):
        whole = encoder.hf_tokenizer.decode(ids, skip_special_tokens=True)
        text = source.text_ids_NC[row, 0]
        own = source.tokens.input_ids[source.tokens.offsets[text] : source.tokens.offsets[text + 1]]
        assert whole == encoder.hf_tokenizer.decode(own, skip_special_tokens=True)
    assert sum(ids.numel() for ids in batch["input_ids"]) < batch["labels"].numel()


def test_nli_becomes_triplets_for_ranking() -> None:
    source = make_training_data(toy_rows(LabelKind.NLI, 40), LabelKind.NLI, Objective.RANKING, tiny_encoder())
    assert source.num_columns == 3
    assert source.num_rows == 40
