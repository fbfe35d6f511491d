"""Word vectors of benchmarks, encoded once and kept in a file as float16."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbert.apply.word_vectors import WordReader, WordVectors, shapes_of
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = ["CachedReader"]


class CachedReader(WordReader):
    """Reads the words of texts; those of known texts come from a file."""

    def __init__(self, path: Path | None, num_layers: int) -> None:
        """Load the file, if there is one."""
        encoder = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32)
        super().__init__(encoder, num_layers=num_layers)
        self._path = path
        self._known: dict[str, WordVectors] = {}
        if path is not None and path.exists():
            with np.load(path) as stored:
                vectors, texts = stored["vectors"], json.loads(str(stored["texts"]))
            first = 0
            for text, places in texts:
                last = first + len(places)
                self._known[text] = self._made(text, [tuple(place) for place in places], vectors[first:last])
                first = last

    def read(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            for words in super().read(new):
                self._known[words.text] = self._made(words.text, list(words.words), words.vectors_WH.astype(np.float16))
        return [self._known[text] for text in texts]

    def save(self) -> None:
        """Write what is known."""
        if self._path is not None:
            texts = json.dumps([[text, words.words] for text, words in self._known.items()])
            vectors = np.concatenate([words.vectors_WH.astype(np.float16) for words in self._known.values()])
            np.savez(self._path, texts=np.array(texts), vectors=vectors)

    def _made(self, text: str, places: list[tuple[int, int]], vectors_WH: np.ndarray) -> WordVectors:
        read_WH = vectors_WH.astype(np.float32)
        whole_H = read_WH.mean(0) if len(read_WH) else np.zeros(read_WH.shape[1], np.float32)
        return WordVectors(text, tuple(places), read_WH, shapes_of(text, places), whole_H)
