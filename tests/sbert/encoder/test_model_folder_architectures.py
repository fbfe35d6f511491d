"""Folders of other architectures, and tokenizers beside them, are read as sentence-transformers reads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sbert.encoder.modules import Dense, Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ModelError
from tests.support.model_folders import assert_equal_vectors, edit, ours
from tests.support.tiny_models import HIDDEN, save_tiny, t5_config, tiny_encoder, tiny_tokenizer, tiny_transformer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_a_plain_causal_model_is_pooled_by_its_last_token(tmp_path: Path, architecture: str) -> None:
    tokenizer = tiny_tokenizer()
    tiny_transformer("bert", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    edit("config.json", architectures=[architecture])(tmp_path)
    encoder = assert_equal_vectors(tmp_path)
    assert encoder.pooling_name == ("lasttoken" if architecture.endswith("ForCausalLM") else "mean")


def test_a_plain_model_with_a_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_transformer("bert", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has a chat template and no modules\.json"):
        ours(tmp_path)


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5", "longt5", "switch_transformers"])
def test_the_encoder_of_a_t5_is_read(tmp_path: Path, kind: str) -> None:
    tiny_encoder(kind).save_pretrained(tmp_path)
    assert_equal_vectors(tmp_path)


@pytest.mark.parametrize("with_modules", [True, False])
def test_of_a_whole_t5_the_encoder_alone_is_used(tmp_path: Path, with_modules: bool) -> None:
    tokenizer = tiny_tokenizer()
    config = t5_config("t5", len(tokenizer))
    torch.manual_seed(0)
    whole = transformers.T5ForConditionalGeneration(config)
    if with_modules:
        tiny_encoder("t5").save_pretrained(tmp_path)
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = assert_equal_vectors(tmp_path)
    assert not any("decoder" in name or "lm_head" in name for name, _ in encoder.named_parameters())
    np.testing.assert_array_equal(
        encoder.transformer.state_dict()["encoder.block.0.layer.0.SelfAttention.q.weight"],
        whole.state_dict()["encoder.block.0.layer.0.SelfAttention.q.weight"],
    )


def test_a_sentence_t5_has_a_dense_layer_without_bias(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    projection = Dense(HIDDEN, 24, bias=False, activation="torch.nn.modules.linear.Identity")
    encoder = SentenceEncoder(
        tiny_transformer("t5", len(tokenizer)), tokenizer, Pooling(HIDDEN, (PoolingMode.MEAN,)), [projection, Normalize()],
        max_seq_length=32, device="cpu",
    )  # fmt: skip
    encoder.save_pretrained(tmp_path)
    assert assert_equal_vectors(tmp_path).dim == 24


def test_a_tokenizer_with_more_tokens_than_embeddings_is_known_at_load(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    num_embeddings = len(tokenizer)
    tokenizer.add_tokens(["one more", "another"])
    tokenizer.save_pretrained(folder)
    expected = f"has {num_embeddings + 2} tokens, the embedding matrix {num_embeddings} rows .* is 'one more'"
    with pytest.raises(ModelError, match=expected):
        ours(folder)


def test_a_padded_vocabulary_is_fine(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    SentenceEncoder(
        tiny_transformer("bert", len(tokenizer) + 40), tokenizer, Pooling(HIDDEN, (PoolingMode.MEAN,)), max_seq_length=64,
        device="cpu",
    ).save_pretrained(tmp_path)  # fmt: skip
    assert_equal_vectors(tmp_path)
