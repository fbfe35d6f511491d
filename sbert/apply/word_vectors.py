"""The words of texts with a vector each: of the encoder's last layers, and of how the word is written.

An uncased encoder does not see capital letters, which tell much about names. So how a word is written stands beside its
vector. A text that is longer than the encoder reads is cut at the ends of sentences, so every word has a vector.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.token_vectors import NO_WORD, TokenReader, TokenVectors
from sbert.index.queries import load_table_encoder
from sbert.table.delta import Table

__all__ = ["NUM_SHAPES", "WordPiece", "WordReader", "WordVectors", "shapes_of"]

SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+[\"'\u201d\u2019)\]]*\s+|\n+")
NUM_SHAPES = 12
TEXTS_AT_ONCE = 512

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WordPiece:
    """A part of a text that the encoder reads at once, before its open layers."""

    first_word: int
    """Number of the text's words before the piece."""
    num_words: int
    word_of_token: Ints
    """The word of each token, counted from the first of the piece, or `NO_WORD`; shape (L,)."""
    states_LH: Float16
    """What the open layers read."""

    @property
    def words(self) -> slice:
        """Return the places of the piece's words among the words of the text."""
        return slice(self.first_word, self.first_word + self.num_words)


@dataclass(frozen=True)
class WordVectors:
    """The W words of a text."""

    text: str
    words: tuple[tuple[int, int], ...]
    """Begin and end of each word in the text, in characters."""
    vectors_WH: Float32
    """Mean of the vectors of each word's tokens, shape (W, H)."""
    shapes_WS: Float32
    """Spelling features of each word, such as capitals and digits, shape (W, `NUM_SHAPES`)."""
    whole_H: Float32
    """Mean of all words' vectors, shape (H,)."""
    pieces: tuple[WordPiece, ...] = ()
    """What the open layers of the reader read; nothing if it has none."""


class WordReader:
    """Reads the words of texts by one encoder, in float32."""

    def __init__(
        self, encoder: SentenceEncoder, *, prompt: str = "", num_layers: int = 4, num_open_layers: int = 0
    ) -> None:
        """Prepare an encoder that was loaded by `SentenceEncoder.from_pretrained`.

        Args:
            encoder: gives the vectors of tokens.
            prompt: put before every text.
            num_layers: layers at the end of the transformer over which the vectors are averaged.
            num_open_layers: the words keep the input of that many layers at the end, for tuned layers in their place.

        Raises:
            ModelError: the encoder was loaded for vectors of texts alone.
        """
        self._tokens = TokenReader(encoder)
        self._prompt = prompt
        self._num_layers = num_layers
        self.num_open_layers = num_open_layers

    @property
    def encoder(self) -> SentenceEncoder:
        """Return the encoder that reads."""
        return self._tokens.encoder

    @classmethod
    def of_table(cls, table: Table, num_layers: int = 4, num_open_layers: int = 0) -> "WordReader":
        """Load the encoder of a table.

        Raises:
            ModelError: it cannot be loaded.
            EncoderMismatchError: the model of that name is no longer the same encoder.
        """
        load_table_encoder(table)  # checks that the model is the one that made the table, in the table's own dtype
        info = table.encoder
        encoder = SentenceEncoder.from_pretrained(
            info.model,
            compute_dtype=ComputeDtype.FLOAT32,
            max_seq_length=info.max_seq_length,
            normalize=info.normalized,
        )
        return cls(encoder, prompt=info.prompt, num_layers=num_layers, num_open_layers=num_open_layers)

    def read(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text."""
        word_vectors: list[WordVectors] = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[first : first + TEXTS_AT_ONCE]
            pieces = [(number, begin, end) for number, text in enumerate(some) for begin, end in self._pieces(text)]
            read = self._tokens.read(
                [some[number][begin:end] for number, begin, end in pieces],
                prompt=self._prompt,
                num_layers=self._num_layers,
                num_open_layers=self.num_open_layers,
            )
            parts: list[list[tuple[int, TokenVectors]]] = [[] for _ in some]
            for (number, begin, _), tokens in zip(pieces, read, strict=True):
                parts[number].append((begin, tokens))
            word_vectors += [_joined(text, part) for text, part in zip(some, parts, strict=True)]
        return word_vectors

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        """Cut a text where the encoder stops reading, at the last end of a sentence before, else at the last word."""
        pieces: list[tuple[int, int]] = []
        begin = 0
        while True:
            tokens = self._tokens.tokenize(text[begin:], prompt=self._prompt)
            if not tokens.is_truncated or not tokens.words:
                return [*pieces, (begin, len(text))]
            limit = begin + (
                tokens.words[-2][1] if len(tokens.words) > 1 else tokens.words[-1][1]
            )  # the last may be cut
            ends = [match.end() for match in SENTENCE_END.finditer(text, begin, limit)]
            end = next((place for place in reversed(ends) if place - begin > (limit - begin) // 2), limit)
            pieces.append((begin, end))
            begin = end


def _joined(text: str, parts: Sequence[tuple[int, TokenVectors]]) -> WordVectors:
    """Join the pieces of a text, and take the mean of the tokens of each word."""
    words = [(begin + start, begin + end) for begin, tokens in parts for start, end in tokens.words]
    means = [_word_means(tokens) for _, tokens in parts]
    vectors_WH = np.concatenate(means)
    whole_H = vectors_WH.mean(0) if len(vectors_WH) else np.zeros(vectors_WH.shape[1], np.float32)
    return WordVectors(text, tuple(words), vectors_WH, shapes_of(text, words), whole_H, tuple(_word_pieces(parts)))


def _word_pieces(parts: Sequence[tuple[int, TokenVectors]]) -> Iterator[WordPiece]:
    first = 0
    for _, tokens in parts:
        if tokens.states_LH.shape[1]:
            yield WordPiece(first, len(tokens.words), tokens.word_of_token, tokens.states_LH)
        first += len(tokens.words)


def _word_means(tokens: TokenVectors) -> Float32:
    own = tokens.word_of_token != NO_WORD
    number = len(tokens.words)
    sums_WH = np.zeros((number, tokens.vectors_LH.shape[1]), np.float32)
    np.add.at(sums_WH, tokens.word_of_token[own], tokens.vectors_LH[own])
    counts_W = np.bincount(tokens.word_of_token[own], minlength=number)
    return np.asarray(sums_WH / np.maximum(counts_W, 1)[:, None], np.float32)


def shapes_of(text: str, words: Sequence[tuple[int, int]]) -> Float32:
    """Return how each word is written, 1 for yes and 0 for no, shape (W, `NUM_SHAPES`).

    The last two columns are the shares of the text's words that begin with a capital, and that are all capitals: in a
    headline capitals say little.
    """
    shapes = np.zeros((len(words), NUM_SHAPES), np.float32)
    for number, (start, end) in enumerate(words):
        word = text[start:end]
        begins = word[:1].isupper()
        shapes[number, :10] = (
            begins,
            begins and number == 0,
            begins and number > 0,
            word.isupper() and len(word) > 1,
            word.islower(),
            any(map(str.isupper, word[1:])) and not word.isupper(),
            any(map(str.isdigit, word)),
            word.isdigit(),
            not any(map(str.isalnum, word)),
            len(word) == 1,
        )
    is_word = shapes[:, 8] == 0
    if is_word.any():
        shapes[:, 10] = shapes[is_word, 0].mean()
        shapes[:, 11] = shapes[is_word, 3].mean()
    return shapes
