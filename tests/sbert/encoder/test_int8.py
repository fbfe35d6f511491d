"""8-bit integers give the neighbours of float32: the default of processors with AVX512-VNNI, but without AMX."""

import functools
import json
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.source.sample import write_sample
from tests.benchmarks.encode import overlap_at_10

NUM_TEXTS = 300
Vectors = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Short texts of the sample corpus, from all over it."""
    file = tmp_path_factory.mktemp("sample") / "sample.jsonl"
    write_sample(str(file))
    all_texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    short = list(dict.fromkeys(text for text in all_texts if len(text) <= 100))
    return short[:: len(short) // NUM_TEXTS][:NUM_TEXTS]


@pytest.fixture(scope="module")
def reference(texts: list[str]) -> np.ndarray:
    """Vectors of sentence-transformers in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(locate_model(DEFAULT_MODEL)), device="cpu", local_files_only=True)
        return np.asarray(peer.encode(texts))


@pytest.fixture(scope="module")
def encode(texts: list[str]) -> Iterator[Vectors]:
    """The packaged encoder in int8: returns the vectors of the texts by a runner, computed once."""

    @functools.cache
    def vectors_of(runner: str) -> np.ndarray:
        if runner == "packed":
            patch.setenv(NATIVE_VARIABLE, "0")
        elif (kernels := load_kernels(ComputeDtype.INT8)).library is None:
            pytest.skip(f"no kernels to run: {kernels.reason}. Run on a processor with AVX512-VNNI and AVX512-BF16")
        encoder = SentenceEncoder.from_pretrained(device="cpu", compute_dtype=ComputeDtype.INT8)
        patch.undo()
        assert encoder.compute_dtype is ComputeDtype.INT8
        assert encoder.selected_runner.name == runner
        return encoder.encode(texts)

    with pytest.MonkeyPatch.context() as patch:
        yield vectors_of


@pytest.mark.parametrize("runner", ["native", "packed"])
def test_int8_keeps_vectors_and_neighbours(runner: str, encode: Vectors, reference: np.ndarray) -> None:
    """The least cosine was 0.9997 with kernels and through torch, the overlap 0.987."""
    vectors = encode(runner)
    assert vectors.shape == reference.shape
    assert np.einsum("nd,nd->n", vectors, reference).min() >= 0.999
    assert overlap_at_10(vectors, reference) >= 0.97


def test_kernels_and_torch_give_nearly_the_same_vectors(encode: Vectors) -> None:
    """They differ where a value lies in the middle between two integers; the least cosine was 0.9998."""
    native, packed = encode("native"), encode("packed")
    assert np.einsum("nd,nd->n", native, packed).min() >= 0.9995
    assert overlap_at_10(native, packed) >= 0.97
