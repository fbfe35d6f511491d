"""bfloat16 through torch gives the neighbours of float32: the default of processors with units for it, but without AMX."""

import json
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.model_location import locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.source.sample import write_sample
from tests.benchmarks.encode import overlap_at_10

NUM_TEXTS = 300


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Short texts of the sample corpus, from all over it."""
    file = tmp_path_factory.mktemp("sample") / "sample.jsonl"
    write_sample(str(file))
    all_texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    short = list(dict.fromkeys(text for text in all_texts if len(text) <= 100))
    return short[:: len(short) // NUM_TEXTS][:NUM_TEXTS]


def test_packed_bfloat16_keeps_vectors_and_neighbours(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    encoder = SentenceEncoder.from_pretrained(device="cpu", compute_dtype=ComputeDtype.BFLOAT16)
    assert encoder.selected_runner.name == "packed"
    runner = encoder.selected_runner.runner
    assert isinstance(runner, PackedRunner)
    assert next(encoder.transformer.parameters()).dtype is torch.bfloat16
    vectors = encoder.encode(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(locate_model(encoder.model_id)), device="cpu", local_files_only=True)
        reference = peer.encode(texts)
    assert vectors.shape == (NUM_TEXTS, encoder.dim)
    assert np.einsum("nd,nd->n", vectors, reference).min() >= 0.999
    assert overlap_at_10(vectors, reference) >= 0.98
