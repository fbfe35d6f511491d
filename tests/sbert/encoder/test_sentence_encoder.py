"""Vectors equal those of the sentence-transformers library, and do not depend on batch mates."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import locate_model
from sbert.encoder.modules import Dense, Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import SettingsError
from tests.support.tiny_models import (
    ARCHITECTURES,
    HIDDEN,
    WIDE,
    WORDS,
    save_tiny,
    tiny_encoder,
    tiny_tokenizer,
    tiny_transformer,
)

TEXTS = [
    "short",
    "",
    "word " * 5000,
    "emoji 😀🎉 and more",
    "今天天气很好。",
    *(" ".join(WORDS[:count]) for count in range(1, 60, 7)),
]


BATCH_TOLERANCE = {
    ComputeDtype.FLOAT32: 1e-5, ComputeDtype.BFLOAT16: 3e-2, ComputeDtype.FLOAT16: 5e-3, ComputeDtype.INT8: 3e-2
}  # fmt: skip
"""Largest change of a value of a unit vector by other texts in its batch, as the guide of `sbert/encoder` says it."""


def reference(folder: str, texts: list[str] = TEXTS, **options: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SentenceTransformer(folder, device="cpu", local_files_only=True).encode(texts, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real() -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(device="cpu")


def test_the_packaged_model_equals_sentence_transformers(real: SentenceEncoder) -> None:
    assert real.dim == 384
    assert real.max_seq_length == 256
    assert real.pooling_name == "mean"
    assert real.normalizes
    expected = reference(str(locate_model(real.model_id)))
    np.testing.assert_allclose(real.encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sentence_transformers_loads_what_we_save_with_equal_vectors(tmp_path: Path, kind: str) -> None:
    encoder = tiny_encoder(kind)
    encoder.save_pretrained(tmp_path)
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(vectors, reference(str(tmp_path)), atol=1e-5)
    again = SentenceEncoder.from_pretrained(tmp_path, device="cpu")
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(again.encode(TEXTS), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_we_load_what_sentence_transformers_saves_with_equal_vectors(tmp_path: Path, kind: str) -> None:
    save_tiny(tmp_path / "ours", kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SentenceTransformer(str(tmp_path / "ours"), device="cpu").save(str(tmp_path / "theirs"))
    ours = SentenceEncoder.from_pretrained(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), reference(str(tmp_path / "theirs")), atol=1e-5)


@pytest.mark.parametrize(
    "modes", [(PoolingMode.CLS, PoolingMode.MAX), (PoolingMode.WEIGHTED_MEAN,), (PoolingMode.MEAN_SQRT_LEN,)]
)
def test_pooling_dense_and_prompts_equal_those_of_sentence_transformers(
    tmp_path: Path, modes: tuple[PoolingMode, ...]
) -> None:
    tokenizer = tiny_tokenizer()
    pooling = Pooling(HIDDEN, modes)
    torch.manual_seed(3)
    dense = Dense(pooling.dim, 8, activation="torch.nn.modules.activation.Tanh")
    encoder = SentenceEncoder(
        tiny_transformer("bert", len(tokenizer)), tokenizer, pooling, [dense, Normalize()],
        max_seq_length=32, prompts={"query": "how do i ", "document": ""}, device="cpu",
    )  # fmt: skip
    encoder.save_pretrained(tmp_path)
    np.testing.assert_allclose(encoder.encode(TEXTS), reference(str(tmp_path)), atol=1e-5)
    with_prompt = encoder.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(with_prompt, reference(str(tmp_path), prompt_name="query"), atol=1e-5)
    assert np.abs(with_prompt - encoder.encode(TEXTS)).max() > 1e-3
    assert encoder.prompt_for(Side.QUERY) == "how do i "
    assert encoder.prompt_for(Side.DOCUMENT) == ""
    with pytest.raises(SettingsError, match=r"no prompt 'title': name one of \['document', 'query'\]"):
        encoder.encode(["x"], prompt_name="title")


def test_attention_pooling_survives_saving(tmp_path: Path) -> None:
    encoder = tiny_encoder(modes=(PoolingMode.ATTENTION, PoolingMode.MEAN))
    assert encoder.pooling.query is not None
    with torch.no_grad():
        encoder.pooling.query.normal_()
    vectors = encoder.encode(TEXTS)
    encoder.save_pretrained(tmp_path)
    np.testing.assert_allclose(
        SentenceEncoder.from_pretrained(tmp_path, device="cpu").encode(TEXTS), vectors, atol=1e-6
    )


def test_a_plain_encoder_folder_is_pooled_by_mean(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_transformer("bert", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = SentenceEncoder.from_pretrained(tmp_path, device="cpu")
    assert encoder.pooling_name == "mean"
    assert not encoder.normalizes
    normalized = SentenceEncoder.from_pretrained(tmp_path, device="cpu", normalize=True)
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(
        normalized.encode(TEXTS), vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-6
    )


def test_the_fingerprint_changes_with_what_decides_vectors(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "a")
    variants = {
        "base": SentenceEncoder.from_pretrained(base),
        "weights": tiny_encoder(seed=1),
        "pooling": tiny_encoder(modes=(PoolingMode.CLS,)),
        "length": SentenceEncoder.from_pretrained(base, max_seq_length=32),
        "normalize": SentenceEncoder.from_pretrained(base, normalize=False),
        "dtype": SentenceEncoder.from_pretrained(base, compute_dtype=ComputeDtype.BFLOAT16),
    }
    assert len({encoder.fingerprint for encoder in variants.values()}) == len(variants)
    assert SentenceEncoder.from_pretrained(base).fingerprint == variants["base"].fingerprint


@pytest.mark.parametrize("dtype", list(ComputeDtype))
def test_a_vector_does_not_depend_on_its_batch_mates(tmp_path: Path, dtype: ComputeDtype) -> None:
    hidden = WIDE if dtype is ComputeDtype.INT8 else HIDDEN
    encoder = SentenceEncoder.from_pretrained(save_tiny(tmp_path, hidden=hidden), compute_dtype=dtype, device="cpu")
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])

    @settings(max_examples=15, deadline=None)
    @given(order=st.permutations(range(len(TEXTS))), budget=st.integers(16, 2000))
    def check(order: list[int], budget: int) -> None:
        together = encoder.encode([TEXTS[number] for number in order], token_budget=budget)
        np.testing.assert_allclose(together, alone[order], atol=BATCH_TOLERANCE[dtype])

    check()


@pytest.mark.parametrize(("kind", "path"), [("bert", "packed"), ("modernbert", "padded")])
def test_out_of_memory_halves_the_budget_and_goes_on(
    kind: str, path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder(kind)
    expected = encoder.encode(TEXTS)
    assert encoder.selected_runner.name == path
    run, limit = encoder.selected_runner.runner.run, 130

    def small_memory(tokens: TokenizedTexts, batch: Any) -> torch.Tensor:
        if tokens.lengths[batch.sequences].sum() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(tokens, batch)

    monkeypatch.setattr(encoder.selected_runner.runner, "run", small_memory)
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.budget"):
        np.testing.assert_allclose(encoder.encode(TEXTS, token_budget=4096), expected, atol=1e-5)
    assert any("out of memory" in message for message in caplog.messages)
    limit = 10
    with pytest.raises(MemoryError, match="one sequence of 64 tokens does not fit"):
        encoder.encode(["word " * 100, "red"])


def test_equal_texts_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder()
    expected = encoder.encode(TEXTS)
    computed: list[int] = []
    encode_tokens = encoder.encode_tokens

    def count(tokens: TokenizedTexts, **options: Any) -> np.ndarray:
        computed.append(len(tokens))
        return encode_tokens(tokens, **options)

    monkeypatch.setattr(encoder, "encode_tokens", count)
    places = np.random.default_rng(0).integers(0, len(TEXTS), 1_000)
    vectors = encoder.encode([TEXTS[place] for place in places])
    assert computed == [len(TEXTS)]
    np.testing.assert_allclose(vectors, expected[places], atol=1e-6)
    assert encoder.encode([]).shape == (0, HIDDEN)


def test_an_encoder_keeps_to_the_containers_processors(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sbert.runtime.hardware.available_cpus", lambda: 1)
    torch.set_num_threads(2)
    try:
        SentenceEncoder.from_pretrained(model)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_encoding_stops_between_batches_on_request() -> None:
    encoder = tiny_encoder()
    with pytest.raises(InterruptedError, match="stopped on request"):
        encoder.encode_tokens(encoder.tokenize(TEXTS), should_stop=lambda: True)
