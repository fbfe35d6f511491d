"""8-bit integers give the neighbours of float32: the default of processors with AVX512-VNNI, but without AMX."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.benchmarks.encode import overlap_at_10

Vectors = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def encode(sample_texts: list[str]) -> Iterator[Vectors]:
    """The packaged encoder in int8: returns the vectors of the texts by a runner, computed once."""

    @functools.cache
    def vectors_of(runner: str) -> np.ndarray:
        if runner == "packed":
            patch.setenv(NATIVE_VARIABLE, "0")
        elif (kernels := load_kernels(ComputeDtype.INT8)).library is None:
            pytest.skip(
                f"there are no kernels for int8 ({kernels.reason}): they need a processor with AVX512-VNNI, a C++ compiler, "
                f"and no {NATIVE_VARIABLE}; the test of the packed runner covers int8 through torch"
            )
        encoder = SentenceEncoder.from_pretrained(device="cpu", compute_dtype=ComputeDtype.INT8)
        patch.undo()
        assert encoder.compute_dtype is ComputeDtype.INT8
        assert encoder.selected_runner.name == runner
        return encoder.encode(sample_texts)

    with pytest.MonkeyPatch.context() as patch:
        yield vectors_of


@pytest.mark.parametrize("runner", ["native", "packed"])
def test_int8_keeps_vectors_and_neighbours(runner: str, encode: Vectors, peer_vectors: np.ndarray) -> None:
    """The least cosine was 0.9997 with kernels and through torch, the overlap 0.987."""
    vectors = encode(runner)
    assert vectors.shape == peer_vectors.shape
    assert np.einsum("nd,nd->n", vectors, peer_vectors).min() >= 0.999
    assert overlap_at_10(vectors, peer_vectors) >= 0.97


def test_kernels_and_torch_give_nearly_the_same_vectors(encode: Vectors) -> None:
    """They differ where a value lies in the middle between two integers; the least cosine was 0.9998."""
    native, packed = encode("native"), encode("packed")
    assert np.einsum("nd,nd->n", native, packed).min() >= 0.9995
    assert overlap_at_10(native, packed) >= 0.97
