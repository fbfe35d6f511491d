"""A relator: prototypes of relations, and the line behind which a pair of names has none of them.

The features of a pair are three vectors side by side: of the head, of the tail, and of the words between them. A relation's
prototype is the mean of its examples (Snell et al. 2017, "Prototypical Networks for Few-shot Learning"). Two names in one
sentence are not a relation by that alone, so a second question is asked: is the pair as near to its best prototype as
examples are to the prototype of their own relation, or only as near as pairs of foreign relations are? A logistic model
answers. It was fitted on examples that their prototype does not hold (`sbert.apply.relations.fit`).

A relator lies beside the output that it makes: ``OUT/_relators/FINGERPRINT/relator.safetensors`` and ``relator.json``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit, log_softmax

from sbert.apply.fitted_models import FittedModels, Tensors
from sbert.apply.relations.settings import RelatorSettings
from sbert.apply.word_vectors import WordVectors
from sbert.vectors.unit import unit_vector

__all__ = ["RELATORS", "PairFeatures", "Relator", "RelatorRecord", "answers_of"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Place = tuple[int, int]


class RelatorRecord(BaseModel):
    """The record of a relator, beside its vectors; ``relator.json``."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Hash of labels, encoder, settings and code that made the relator.")
    encoder_fingerprint: str = Field(description="The encoder whose word vectors it reads.")
    relations: list[str] = Field(description="The relations, sorted.")
    num_examples: dict[str, int] = Field(description="Labelled pairs of each relation.")
    num_none: int = Field(description="Labelled pairs that have none of the relations.")
    types: dict[str, list[tuple[str, str]]] = Field(
        description="Types of head and tail that a relation's examples have; no entry where labels name no types."
    )
    settings: RelatorSettings
    temperature: float = Field(description="Cosines are divided by this before they become shares of the relations.")
    coefficients: list[float] = Field(
        description="Of the model that says whether a pair has any of the relations: constant, best cosine, its lead over "
        "the second relation, its lead over the nearest pair that has none."
    )
    found: float = Field(description="Share of the examples that are found with their relation by the other examples.")
    kept_out: float = Field(
        description="Share of pairs of other relations, or of none, that are recognised as having none."
    )


@dataclass(frozen=True)
class PairFeatures:
    """Makes the features of pairs of names."""

    mean_H: Float32
    """Mean of the words' vectors of the labelled texts."""
    weights: tuple[float, float, float]
    """Weights of head, tail and the words between."""

    def of(self, words: WordVectors, head: Place, tail: Place) -> Float32:
        """Return the unit vector of a pair, shape (3 H,); places are in characters."""
        left, right = (head, tail) if head < tail else (tail, head)
        parts = [self._mean(words, *head), self._mean(words, *tail), self._mean(words, left[1], right[0])]
        return unit_vector(np.concatenate([weight * part for weight, part in zip(self.weights, parts, strict=True)]))

    def _mean(self, words: WordVectors, start: int, end: int) -> Float32:
        """Return the centred mean of the words of a span, of length 1; zero if the span has no word."""
        inside = [number for number, (begin, stop) in enumerate(words.words) if begin < end and stop > start]
        if not inside:
            return np.zeros_like(self.mean_H)
        return unit_vector(words.vectors_WH[inside].mean(0) - self.mean_H)


@dataclass(frozen=True)
class Relator:
    """Prototypes of R relations, and M pairs that have none of them."""

    record: RelatorRecord
    features: PairFeatures
    prototypes_RG: Float32
    none_MG: Float32

    def probabilities(self, features_PG: Float32) -> Float64:
        """Return the probability of each relation for P pairs, shape (P, R); the rest to 1 is that of no relation."""
        cosines_PR = np.asarray(features_PG @ self.prototypes_RG.T, np.float64)
        none_P = nearest_none(features_PG, self.none_MG)
        constant, *weights = self.record.coefficients
        any_P = expit(constant + answers_of(cosines_PR, none_P) @ np.array(weights))
        shares_PR = np.exp(log_softmax(cosines_PR / self.record.temperature, axis=1))
        return np.asarray(any_P[:, None] * shares_PR)

    def allows(self, relation: str, head_type: str | None, tail_type: str | None) -> bool:
        """Return whether a relation's examples have these types; always where labels or names have no types."""
        types = self.record.types.get(relation)
        return types is None or head_type is None or tail_type is None or (head_type, tail_type) in types

    def save(self, out_uri: str) -> None:
        """Write the relator beside the output."""
        tensors = {"mean": self.features.mean_H, "prototypes": self.prototypes_RG, "none": self.none_MG}
        RELATORS.save(out_uri, self.record.fingerprint, self.record, tensors)


def _build(content: bytes, tensors: Tensors) -> Relator:
    record = RelatorRecord.model_validate_json(content)
    return Relator(record, pair_features(tensors["mean"], record.settings), tensors["prototypes"], tensors["none"])


RELATORS = FittedModels("relator", "_relators", "run `sbert relations` again", _build)


def pair_features(mean_H: Float32, settings: RelatorSettings) -> PairFeatures:
    """Return the features that settings ask for."""
    return PairFeatures(mean_H, (settings.head_weight, settings.tail_weight, settings.between_weight))


def answers_of(cosines_PR: Float64, none_P: Float64) -> Float64:
    """Return the inputs of the model that decides whether a pair has any of the relations, shape (P, 3): see
    `RelatorRecord.coefficients`."""
    ordered_PR = np.sort(cosines_PR, axis=1)
    best_P = ordered_PR[:, -1]
    second_P = ordered_PR[:, -2] if cosines_PR.shape[1] > 1 else np.zeros(len(best_P))
    return np.stack([best_P, best_P - second_P, best_P - none_P], axis=1)


def nearest_none(features_PG: Float32, none_MG: Float32) -> Float64:
    """Return the cosine of each pair with the nearest pair that has no relation, 0 if none are known, shape (P,)."""
    if not len(none_MG):
        return np.zeros(len(features_PG))
    return np.asarray((features_PG @ none_MG.T).max(axis=1), np.float64)
