"""Read a model folder by this library and by sentence-transformers, and compare the vectors."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.support.tiny_models import WORDS

TEXTS = ["short", "", "how do i reset my password", " ".join(WORDS), "Emoji 😀 and [MASK] and ΑΣ"]

Change = Callable[[Path], None]


def theirs(folder: Path, **options: Any) -> np.ndarray:
    """Return the vectors of sentence-transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS, **options)


def ours(folder: Path, **options: Any) -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(folder, device="cpu", **options)


def assert_equal_vectors(folder: Path) -> SentenceEncoder:
    """Check that this library and sentence-transformers read a folder alike."""
    encoder, expected = ours(folder), theirs(folder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    return encoder


def edit(file: str, **fields: Any) -> Change:
    """Return a change that sets fields of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(content | fields))

    return change
