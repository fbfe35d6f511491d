"""Word vectors of benchmarks, encoded once and kept in a file as float16."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbert.apply.word_vectors import WordPiece, WordReader, WordVectors, shapes_of
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = ["CachedReader"]


class CachedReader(WordReader):
    """Reads the words of texts; those of known texts come from a file."""

    def __init__(self, path: Path | None, num_layers: int, num_open_layers: int = 0) -> None:
        """Load the file, if there is one."""
        encoder = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32)
        super().__init__(encoder, num_layers=num_layers, num_open_layers=num_open_layers)
        self._path = path
        self._known: dict[str, WordVectors] = {}
        if path is not None and path.exists():
            with np.load(path) as stored:
                vectors, states, tokens = stored["vectors"], stored["states"], stored["tokens"]
                texts = json.loads(str(stored["texts"]))
            first = first_token = 0
            for text, places, sizes in texts:
                last = first + len(places)
                pieces = []
                for first_word, num_words, num_tokens in sizes:
                    own = slice(first_token, first_token + num_tokens)
                    pieces.append(WordPiece(first_word, num_words, tokens[own], states[own]))
                    first_token += num_tokens
                words = self._made(text, [tuple(place) for place in places], vectors[first:last], pieces)
                self._known[text] = words
                first = last

    def read(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            for words in super().read(new):
                self._known[words.text] = self._made(
                    words.text, list(words.words), words.vectors_WH.astype(np.float16), words.pieces
                )
        return [self._known[text] for text in texts]

    def save(self) -> None:
        """Write the word vectors that were read."""
        if self._path is not None:
            all_words = self._known.values()
            pieces = [piece for words in all_words for piece in words.pieces]
            texts = [
                [words.text, words.words, [[p.first_word, p.num_words, len(p.word_of_token)] for p in words.pieces]]
                for words in all_words
            ]
            np.savez(
                self._path,
                texts=np.array(json.dumps(texts)),
                vectors=np.concatenate([words.vectors_WH.astype(np.float16) for words in all_words]),
                states=np.concatenate([np.zeros((0, 0), np.float16)] if not pieces else [p.states_LH for p in pieces]),
                tokens=np.concatenate([np.zeros(0, np.int64), *(p.word_of_token for p in pieces)]),
            )

    def _made(
        self, text: str, places: list[tuple[int, int]], vectors_WH: np.ndarray, pieces: Sequence[WordPiece]
    ) -> WordVectors:
        read_WH = vectors_WH.astype(np.float32)
        whole_H = read_WH.mean(0) if len(read_WH) else np.zeros(read_WH.shape[1], np.float32)
        return WordVectors(text, tuple(places), read_WH, shapes_of(text, places), whole_H, tuple(pieces))
