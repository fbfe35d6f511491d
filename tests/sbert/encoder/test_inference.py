"""Loads from a record: the same vectors as a full load, and a full load whenever the record does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sbert import SentenceEncoder
from sbert.encoder import inference, load_record
from sbert.encoder.describe import describe_model
from sbert.encoder.description import EncoderSpec
from sbert.encoder.engine.compiled import Kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.inference import load_for_encoding
from sbert.encoder.stored_transformer import StoredTransformer
from sbert.errors import ModelError, QualityError
from sbert.runtime.user_cache import user_cache
from tests.support.tiny_models import WIDE, save_tiny

TEXTS = ["red", "How do I reset my password?", "a longer text about trains that are late " * 5]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(save_tiny(tmp_path / "model"))


def records() -> list[Path]:
    return sorted((user_cache() / "encoders").glob("*.json"))


def is_from_record(encoder: SentenceEncoder) -> bool:
    return isinstance(encoder.transformer, StoredTransformer)


def vectors(encoder: SentenceEncoder) -> np.ndarray:
    return encoder.encode(TEXTS, side="document")


def test_the_second_load_needs_no_transformers_and_gives_the_same_vectors(folder: Path) -> None:
    spec = EncoderSpec(model=str(folder))
    first, second = load_for_encoding(spec), load_for_encoding(spec)
    assert not is_from_record(first)
    assert is_from_record(second)
    assert second.description == first.description
    assert second.selected_runner.name == first.selected_runner.name
    assert second.selected_runner.probe_cosine == first.selected_runner.probe_cosine
    np.testing.assert_array_equal(vectors(second), vectors(first))


def test_weights_whose_names_carry_the_name_of_the_architecture_are_found(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {f"bert.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    first, second = (load_for_encoding(EncoderSpec(model=str(folder))) for _ in range(2))
    assert is_from_record(second)
    np.testing.assert_array_equal(vectors(second), vectors(first))


def test_what_was_chosen_may_be_asked_for_by_name(folder: Path) -> None:
    """A table names the type and the length that its first run chose."""
    chosen = load_for_encoding(EncoderSpec(model=str(folder)))
    assert len(records()) == 2
    named = EncoderSpec(model=str(folder), max_seq_length=chosen.max_seq_length, compute_dtype=chosen.compute_dtype)
    second = load_for_encoding(named)
    assert is_from_record(second)
    assert second.description == chosen.description
    np.testing.assert_array_equal(vectors(second), vectors(chosen))


@pytest.mark.parametrize("native", ["0", "1"])
def test_an_encoder_in_integers_is_loaded_from_its_record(
    native: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, native)
    spec = EncoderSpec(model=save_tiny(tmp_path / "wide", hidden=WIDE), compute_dtype=ComputeDtype.INT8)
    first, second = load_for_encoding(spec), load_for_encoding(spec)
    assert not is_from_record(first)
    assert is_from_record(second)
    assert second.compute_dtype is ComputeDtype.INT8
    assert second.description == first.description
    assert second.selected_runner.name == first.selected_runner.name != "padded"
    np.testing.assert_array_equal(vectors(second), vectors(first))
    of_bfloat16 = load_for_encoding(spec.model_copy(update={"compute_dtype": ComputeDtype.BFLOAT16}))
    assert not np.array_equal(vectors(of_bfloat16), vectors(first))
    assert of_bfloat16.fingerprint != first.fingerprint


@pytest.mark.parametrize("choice", [{"max_seq_length": 16}, {"normalize": False}, {"compute_dtype": "bfloat16"}])
def test_other_choices_have_a_record_of_their_own(folder: Path, choice: dict[str, object]) -> None:
    plain, other = EncoderSpec(model=str(folder)), EncoderSpec.model_validate({"model": str(folder), **choice})
    load_for_encoding(plain)
    assert not is_from_record(load_for_encoding(other))
    assert load_for_encoding(other).description == SentenceEncoder.from_pretrained(str(folder), **choice).description  # type: ignore[arg-type]


def test_changed_weights_are_loaded_in_full(folder: Path, tmp_path: Path) -> None:
    spec = EncoderSpec(model=str(folder))
    before = load_for_encoding(spec)
    other = Path(save_tiny(tmp_path / "other", seed=1))
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    after = load_for_encoding(spec)
    assert not is_from_record(after)
    assert after.fingerprint != before.fingerprint


def test_a_record_that_describes_another_encoder_is_not_used(folder: Path) -> None:
    spec = EncoderSpec(model=str(folder))
    right = load_for_encoding(spec)
    for file in records():
        record = json.loads(file.read_text())
        record["description"]["fingerprint"] = "0" * 64
        file.write_text(json.dumps(record))
    again = load_for_encoding(spec)
    assert not is_from_record(again)
    assert again.fingerprint == right.fingerprint


@pytest.mark.parametrize("content", ["", "{}", '{"description": ', "\x00\x01"])
def test_a_broken_record_is_written_anew(folder: Path, content: str) -> None:
    spec = EncoderSpec(model=str(folder))
    load_for_encoding(spec)
    for file in records():
        file.write_text(content)
    assert not is_from_record(load_for_encoding(spec))
    assert is_from_record(load_for_encoding(spec))


def test_without_a_cache_every_load_is_a_full_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is wanted")
    assert not is_from_record(load_for_encoding(EncoderSpec(model=str(folder))))
    assert not is_from_record(load_for_encoding(EncoderSpec(model=str(folder))))


def test_another_compiler_has_a_record_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load without a compiler takes another runner, and maybe another type, which later tables would keep."""
    spec = EncoderSpec(model=str(folder))
    before = load_record.record_path(folder, spec)
    monkeypatch.setenv("CXX", "/nonexistent")
    assert load_record.record_path(folder, spec) != before


@pytest.mark.parametrize("may_come", [True, False])
def test_a_load_whose_kernels_may_come_later_is_not_remembered(
    folder: Path, may_come: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EncoderSpec(model=str(folder))
    kernels = Kernels(None, "the compiler ran out of time", may_come=may_come)
    monkeypatch.setattr(inference, "load_kernels", lambda dtype: kernels)
    load_for_encoding(spec)
    assert load_record.record_path(folder, spec).exists() is not may_come


def test_only_the_newest_records_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_record, "MAX_RECORDS", 2)
    for length in (10, 12, 14, 16):
        load_for_encoding(EncoderSpec(model=str(folder), max_seq_length=length))
    assert len(records()) == 2
    assert is_from_record(load_for_encoding(EncoderSpec(model=str(folder), max_seq_length=16)))


def test_an_encoder_from_a_record_refuses_to_be_called(folder: Path) -> None:
    for _ in range(2):
        encoder = load_for_encoding(EncoderSpec(model=str(folder)))
    with pytest.raises(ModelError, match="loaded for encoding alone"):
        encoder(torch.ones(1, 3, dtype=torch.int64))


def test_a_model_is_described_without_its_weights_once_it_was_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EncoderSpec(model=str(folder))
    described = describe_model(spec)
    monkeypatch.setattr(inference, "load_parts", None)
    monkeypatch.setattr(SentenceEncoder, "from_pretrained", None)
    assert describe_model(spec) == described


def test_a_model_whose_vectors_are_all_alike_is_not_remembered(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: torch.zeros_like(tensor) + 0.5 for name, tensor in tensors.items()}, folder / "model.safetensors")
    for _ in range(2):
        with pytest.raises(QualityError, match="the encoder has collapsed"):
            describe_model(EncoderSpec(model=str(folder)))
    assert records() == []
