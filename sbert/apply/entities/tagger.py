"""A tagger: its tags for the words of a text, and its files.

A word takes the type of the labelled words that it is near to (NNShot and StructShot: Yang and Katiyar 2020, "Simple and
Effective Few-Shot Named Entity Recognition with Structured Nearest Neighbor Learning"). Two things differ from the paper.
The score of a type is the mean Gaussian similarity to all of its labelled words, not to the nearest alone: with five
examples a single neighbour is often chance. How a word is written stands beside its vector.

A tagger lies beside the output that it makes: ``OUT/_taggers/FINGERPRINT/tagger.safetensors`` and ``tagger.json``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.entities.transitions import OUTSIDE, Marginals, Transitions, best_path
from sbert.apply.entities.tuned_layers import LayerShape, TunedLayers
from sbert.apply.fitted_models import FittedModels, Tensors
from sbert.apply.word_vectors import WordVectors
from sbert.vectors.unit import unit_rows

__all__ = ["TAGGERS", "Entity", "Projection", "Tagger", "TaggerRecord"]

WORDS_AT_ONCE = 4_096
TUNED = "tuned."
"""Begin of the names of tensors of tuned layers."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Entity(BaseModel):
    """A span of a text and its type."""

    model_config = ConfigDict(frozen=True)

    start: int = Field(description="Place of the first character in the text, from 0.")
    end: int = Field(description="Place after the last character.")
    type: str
    text: str
    probability: float = Field(
        description="Probability, by the tagger, that exactly these words are an entity of the type."
    )


class TaggerRecord(BaseModel):
    """The record of a tagger, beside its weights; ``tagger.json``."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Hash of labels, encoder, settings and code that made the tagger.")
    encoder_fingerprint: str = Field(description="The encoder whose word vectors it reads.")
    types: list[str] = Field(description="Types of entities, sorted.")
    num_layers: int = Field(description="Layers over which the vectors of words are averaged.")
    num_texts: int = Field(description="Labelled texts.")
    num_entities: dict[str, int] = Field(description="Labelled entities of each type.")
    num_base_texts: int = Field(description="Texts of the base labels; 0 without them.")
    tuned: LayerShape | None = Field(
        default=None, description="Shape of the encoder's layers that learned from the base labels; None: it is frozen."
    )
    frozen: str | None = Field(default=None, description="Why no layers learned though the settings ask for it.")
    temperature: float = Field(description="Width of the Gaussian: squared distances are divided by it.")
    begin: float = Field(description="Probability that an entity begins after a word outside of entities.")
    go_on: float = Field(description="Probability that an entity goes on after one of its words.")
    change: float = Field(description="Probability that an entity is followed by one of another type.")


@dataclass(frozen=True)
class Projection:
    """The features of words: centred vectors, spelling features, and the hidden layer that base labels taught."""

    mean_H: Float32
    """Mean of the words' vectors."""
    hidden_FE: Float32
    """Weights of the hidden layer of a network that was trained on base labels; no columns without base labels."""
    bias_E: Float32
    learned_weight: float
    vector_weight: float
    shape_weight: float
    tuned: TunedLayers | None = None
    """The last layers of the encoder, which base labels taught too."""
    tuned_weight: float = 0.0

    def inputs(self, words: WordVectors) -> Float32:
        """Return centred unit vectors and shapes side by side, shape (W, F)."""
        return np.concatenate([unit_rows(words.vectors_WH - self.mean_H), words.shapes_WS], axis=1)

    def __call__(self, words: Sequence[WordVectors]) -> list[Float32]:
        """Return the features of the words of each text, in which near means alike, shape (W, G)."""
        frozen = [self._frozen(each) for each in words]
        if self.tuned is None:
            return frozen
        hidden = self.tuned.read(words)
        return [
            np.concatenate([frozen_WG, self.tuned_weight * unit_rows(hidden_WE)], axis=1, dtype=np.float32)
            for frozen_WG, hidden_WE in zip(frozen, hidden, strict=True)
        ]

    def _frozen(self, words: WordVectors) -> Float32:
        inputs_WF = self.inputs(words)
        num_values = len(self.mean_H)
        parts = [self.vector_weight * inputs_WF[:, :num_values], self.shape_weight * inputs_WF[:, num_values:]]
        if self.hidden_FE.shape[1]:
            hidden_WE = np.maximum(inputs_WF @ self.hidden_FE + self.bias_E, 0)
            parts.append(self.learned_weight * unit_rows(hidden_WE))
        return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True)
class Tagger:
    """Labelled words that other words are compared with, and the probabilities of one tag after another."""

    record: TaggerRecord
    projection: Projection
    labelled_NG: Float32
    """Features of the N labelled words."""
    tags_N: Ints
    """Their tags: 0 for no entity, else the place of the type in `record.types`, counted from 1."""

    def scores(self, features_WG: Float32) -> Float64:
        """Return the logarithm of the mean similarity to the labelled words of each tag, shape (W, K)."""
        parts = [
            self._scores(features_WG[first : first + WORDS_AT_ONCE])
            for first in range(0, max(len(features_WG), 1), WORDS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _scores(self, features_WG: Float32) -> Float64:
        squares_WN = (
            (features_WG**2).sum(1)[:, None] + (self.labelled_NG**2).sum(1) - 2 * features_WG @ self.labelled_NG.T
        )
        exponents_WN = -squares_WN.astype(np.float64) / self.record.temperature
        highest_W1 = exponents_WN.max(axis=1, keepdims=True)
        near_WN = np.exp(exponents_WN - highest_W1)
        counts_K = np.bincount(self.tags_N, minlength=1 + len(self.record.types))
        member_NK = (self.tags_N[:, None] == np.arange(len(counts_K))) / np.maximum(counts_K, 1)
        return np.asarray(np.log(near_WN @ member_NK + 1e-30))

    def tag(self, words: Sequence[WordVectors]) -> list[list[Entity]]:
        """Return the entities of each text, in its order."""
        return [self._tag(*text) for text in zip(words, self.projection(words), strict=True)]

    def _tag(self, words: WordVectors, features_WG: Float32) -> list[Entity]:
        if not words.words:
            return []
        scores_WK = self.scores(features_WG)
        record = self.record
        transitions = Transitions(begin=record.begin, go_on=record.go_on, change=record.change)
        transitions_KK = transitions.log_matrix(1 + len(record.types))
        path_W = best_path(scores_WK, transitions_KK)
        if not (path_W != OUTSIDE).any():
            return []
        marginals = Marginals.of(scores_WK, transitions_KK)
        return [
            Entity(
                start=words.words[first][0],
                end=words.words[last][1],
                type=record.types[tag - 1],
                text=words.text[words.words[first][0] : words.words[last][1]],
                probability=round(marginals.probability(first, last, tag), 4),
            )
            for first, last, tag in _runs(path_W)
        ]

    def save(self, out_uri: str) -> None:
        """Write the tagger beside the output."""
        projection = self.projection
        weights = [projection.learned_weight, projection.vector_weight, projection.shape_weight]
        tensors: dict[str, npt.NDArray[Any]] = {
            "mean": projection.mean_H,
            "hidden": projection.hidden_FE,
            "bias": projection.bias_E,
            "weights": np.array(weights, np.float64),
            "labelled": self.labelled_NG,
            "tags": self.tags_N,
        }
        if projection.tuned is not None:
            tensors["tuned_weight"] = np.array([projection.tuned_weight], np.float64)
            tensors |= {f"{TUNED}{name}": value for name, value in projection.tuned.tensors().items()}
        TAGGERS.save(out_uri, self.record.fingerprint, self.record, tensors)


def _build(content: bytes, tensors: Tensors) -> Tagger:
    learned, vector, shape = map(float, tensors["weights"])
    projection = Projection(tensors["mean"], tensors["hidden"], tensors["bias"], learned, vector, shape)
    record = TaggerRecord.model_validate_json(content)
    if record.tuned is not None:
        weights = {name.removeprefix(TUNED): value for name, value in tensors.items() if name.startswith(TUNED)}
        projection = replace(
            projection,
            tuned=TunedLayers.of_tensors(record.tuned, weights),
            tuned_weight=float(tensors["tuned_weight"][0]),
        )
    return Tagger(record, projection, tensors["labelled"], tensors["tags"])


TAGGERS = FittedModels("tagger", "_taggers", "run `sbert entities` again", _build)


def _runs(path_W: Ints) -> Iterator[tuple[int, int, int]]:
    """Yield first word, last word and tag of every run of words with one tag."""
    first = 0
    for word in range(1, len(path_W) + 1):
        if word == len(path_W) or path_W[word] != path_W[first]:
            if path_W[first] != OUTSIDE:
                yield first, word - 1, int(path_W[first])
            first = word
