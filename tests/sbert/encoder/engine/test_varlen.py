"""Variable-length attention, computed on a CPU by a stand-in with the interface of torch's."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sbert.encoder.engine import runner_selection, varlen
from sbert.encoder.engine.runner_selection import PROBE, run_all, select_runner
from sbert.encoder.engine.varlen import VarlenRunner, find_varlen_attention, why_varlen_cannot
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.support.tiny_models import tiny_encoder

TEXTS = ["red", "", "the cat sat on the mat " * 9, *(f"blue {number} cat" for number in range(20))]


def stand_in(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
) -> Tensor:
    """Compute each sequence by itself, as torch.nn.attention.varlen.varlen_attn does; shapes (T, N, D)."""
    assert cu_seq_q.dtype is torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    attended = torch.empty_like(query)
    for first, stop in zip(cu_seq_q.tolist()[:-1], cu_seq_k.tolist()[1:], strict=True):
        parts = (each[first:stop].transpose(0, 1)[None] for each in (query, key, value))
        attended[first:stop] = functional.scaled_dot_product_attention(*parts)[0].transpose(0, 1)
    return attended


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> SentenceEncoder:
    """A tiny encoder on a CPU that may take the path of an accelerator."""
    monkeypatch.setattr(varlen, "find_varlen_attention", lambda: stand_in)
    monkeypatch.setitem(runner_selection.WHY_NOT, "varlen", lambda weights: None)
    monkeypatch.setattr(runner_selection, "FAST_RUNNERS", runner_selection.FAST_ACCELERATOR_RUNNERS)
    return tiny_encoder()


def test_variable_length_attention_is_selected_and_gives_the_vectors_of_the_plain_forward_pass(
    encoder: SentenceEncoder,
) -> None:
    assert encoder.selected_runner.name == "varlen"
    assert "variable-length attention" in encoder.selected_runner.reason
    tokens = encoder.tokenize(TEXTS)
    plain = run_all(encoder.plain_runner(), tokens, encoder.dim, 1_000)
    np.testing.assert_allclose(encoder.encode(TEXTS), plain[np.arange(len(TEXTS))], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, token_budget=20), plain, atol=1e-5)


def test_batches_have_no_padding(encoder: SentenceEncoder) -> None:
    tokens = encoder.tokenize(TEXTS)
    batches = list(encoder.selected_runner.runner.cut(tokens, np.arange(len(TEXTS)), 64))
    assert isinstance(encoder.selected_runner.runner, VarlenRunner)
    assert sum(len(batch.tokens) for batch in batches) == len(tokens.input_ids)


def test_a_wrong_attention_is_not_used(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "find_varlen_attention", lambda: lambda query, *rest: query.flip(0))
    runner = select_again(encoder)
    assert runner.name == "packed"
    assert "not varlen (it failed the probe" in runner.reason


def test_an_attention_that_does_not_run_is_not_used(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Tensor:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")

    monkeypatch.setattr(varlen, "find_varlen_attention", lambda: fail)
    runner = select_again(encoder)
    assert runner.name == "packed"
    assert "not varlen (it failed on the probe)" in runner.reason


def select_again(encoder: SentenceEncoder) -> runner_selection.SelectedRunner:
    return select_runner(
        encoder.forward, encoder.transformer, encoder.pooling, encoder.layers, pad_id=0, dim=encoder.dim,
        probe=encoder.tokenize(PROBE), reference_SD=None, token_budget=1_024,
    )  # fmt: skip


def test_the_reason_against_variable_length_attention_names_the_device() -> None:
    weights = read_weights(tiny_encoder().transformer)
    assert weights is not None
    assert why_varlen_cannot(weights) == "it computes on cpu"
    on_meta = replace(weights, words=weights.words.to("meta"))
    assert why_varlen_cannot(on_meta) == "it computes on meta"


def test_the_interface_of_torch_is_the_one_that_is_called() -> None:
    attention = find_varlen_attention()
    assert attention is not None, "the pinned version of torch has variable-length attention"
    names = list(inspect.signature(attention).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
