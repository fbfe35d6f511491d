"""Texts of the sample corpus with their vectors from sentence-transformers: what every compute type is compared with."""

import json
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.source.sample import write_sample

NUM_TEXTS = 300


@pytest.fixture(scope="session")
def sample_texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Short texts of the sample corpus, from all over it."""
    file = tmp_path_factory.mktemp("sample") / "sample.jsonl"
    write_sample(str(file))
    all_texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    short = list(dict.fromkeys(text for text in all_texts if len(text) <= 100))
    return short[:: len(short) // NUM_TEXTS][:NUM_TEXTS]


@pytest.fixture(scope="session")
def peer_vectors(sample_texts: list[str]) -> np.ndarray:
    """Vectors of sentence-transformers in float32, from the packaged model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(locate_model(DEFAULT_MODEL)), device="cpu", local_files_only=True)
        return np.asarray(peer.encode(sample_texts))
