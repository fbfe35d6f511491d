"""A ranker: a small network that scores the sentences of a document, learned from summaries that people wrote.

A sentence is described by its features (`features.py`), by its wording (`wording.py`), by its vector and by the centroid of
its document. Several networks of one hidden layer, which differ by their random beginning, each give a score, and the mean
of these counts.

A ranker lies beside the output that it makes: ``OUT/_rankers/FINGERPRINT/ranker.safetensors`` and ``ranker.json``.
"""

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.fitted_models import FittedModels, Tensors
from sbert.apply.summaries.features import FEATURES, centroid_of, sentence_features
from sbert.apply.summaries.sentences import SentenceList
from sbert.apply.summaries.wording import WORDING_FEATURES, WordingModel, count_runs, wording_features
from sbert.counted import counted
from sbert.vectors.precision import Float32

__all__ = [
    "RANKERS",
    "LabelCounts",
    "Networks",
    "Ranker",
    "RankerModels",
    "RankerQuality",
    "RankerRecord",
    "Value",
    "ranker_inputs",
]


class LabelCounts(BaseModel):
    """Counts of labels that were used, and of labels that were left out."""

    model_config = ConfigDict(frozen=True)

    num_rows: int = Field(description="Rows of the labels.")
    num_incomplete: int = Field(description="Rows without a document or without a summary.")
    num_repeated: int = Field(description="Rows that say what another row says.")
    num_documents: int = Field(description="Documents that the labels name.")
    num_several: int = Field(description="Documents with several summaries; the one that fits best counts.")
    num_not_found: int = Field(description="Documents that are not in the table.")
    num_without_choice: int = Field(
        description="Documents of the table with one sentence or none, or whose sentences are all equally like the summary."
    )
    num_left_out: int = Field(description="Documents of the table above the most that are learned from.")
    num_learned: int = Field(description="Documents that are learned from; equal ids of several sources count each.")

    def account(self) -> str:
        """Return the counts as a sentence."""
        parts = [
            (self.num_incomplete, "row", "incomplete"),
            (self.num_repeated, "row", "repeated"),
            (self.num_several, "document", "with several summaries"),
            (self.num_not_found, "document", "not in the table"),
            (self.num_without_choice, "document", "without a choice of sentences"),
            (self.num_left_out, "document", "above the limit"),
        ]
        others = "".join(f", {counted(count, noun)} {what}" for count, noun, what in parts if count)
        labels, documents = counted(self.num_rows, "label"), counted(self.num_documents, "document")
        return f"{labels} of {documents}, {self.num_learned:,} learned from{others}"


class Value(BaseModel):
    """A figure with its interval of 95 %."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


class RankerQuality(BaseModel):
    """ROUGE-1 F of summaries within the budget, on labelled documents that the ranker had not seen."""

    model_config = ConfigDict(frozen=True)

    num_documents: int
    ranker: Value
    lexrank: Value
    first: float = Field(description="Of the first sentences.")
    gain: Value = Field(description="Ranker minus LexRank, on the same documents.")

    @property
    def is_better(self) -> bool:
        """Return whether the ranker is used."""
        return self.gain.value > 0


class RankerRecord(BaseModel):
    """The record of a ranker, beside its weights; `ranker.json`."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Hash of labels, encoder, settings and code that made the ranker.")
    encoder_fingerprint: str = Field(description="The encoder whose vectors it scores.")
    labels: LabelCounts
    quality: RankerQuality
    features: tuple[str, ...] = Field(
        default=WORDING_FEATURES + FEATURES, description="Features in the order of its weights."
    )


@dataclass(frozen=True)
class Networks:
    """M networks with I inputs and H hidden values; the inputs are wording, features, sentence vector and centroid."""

    mean_I: Float32
    scale_I: Float32
    hidden_MIH: Float32
    hidden_bias_MH: Float32
    output_MH: Float32

    def scores(self, inputs_SI: Float32) -> Float32:
        """Return the score of each row of inputs, shape (S,); higher is better."""
        scaled_SI = (inputs_SI - self.mean_I) / self.scale_I
        hidden_MSH = np.maximum(scaled_SI @ self.hidden_MIH + self.hidden_bias_MH[:, None, :], 0)
        scores_S: Float32 = np.einsum("msh,mh->s", hidden_MSH, self.output_MH) / len(self.output_MH)
        return scores_S


@dataclass(frozen=True)
class RankerModels:
    """The models that score a sentence: first by its wording, then by all of its features."""

    wording: WordingModel
    networks: Networks

    def scores(self, inputs_SI: Float32, runs_SW: scipy.sparse.csr_matrix) -> Float32:
        """Return the score of each sentence of one document, shape (S,); higher is better.

        Args:
            inputs_SI: from `ranker_inputs`.
            runs_SW: from `count_runs`.
        """
        wording_SK = wording_features(self.wording.scores(runs_SW))
        return self.networks.scores(np.concatenate([wording_SK, inputs_SI], axis=1))


@dataclass(frozen=True)
class Ranker:
    """The models, and how they were made."""

    record: RankerRecord
    models: RankerModels

    def scores(self, sentences: SentenceList, vectors_SD: Float32) -> Float32:
        """Return the score of each sentence of one document, shape (S,); higher is better.

        Args:
            sentences: S sentences.
            vectors_SD: their unit vectors.
        """
        return self.models.scores(ranker_inputs(sentences, vectors_SD), count_runs(sentences.terms))

    def save(self, out_uri: str) -> None:
        """Write the ranker beside the output."""
        wording = self.models.wording
        tensors = vars(self.models.networks) | {
            "wording_idf": wording.idf_W,
            "wording_weights": wording.weights_W,
            "wording_intercept": np.array([wording.intercept], np.float64),
        }
        RANKERS.save(out_uri, self.record.fingerprint, self.record, tensors)


def ranker_inputs(sentences: SentenceList, vectors_SD: Float32) -> Float32:
    """Return the inputs of a ranker for each sentence: features, vector, centroid; shape (S, F + 2 D)."""
    centroid_SD = np.broadcast_to(centroid_of(vectors_SD), vectors_SD.shape)
    return np.concatenate([sentence_features(sentences, vectors_SD), vectors_SD, centroid_SD], axis=1)


def _build(content: bytes, tensors: Tensors) -> Ranker:
    networks = Networks(**{field.name: tensors[field.name] for field in fields(Networks)})
    intercept = float(tensors["wording_intercept"][0])
    wording = WordingModel(tensors["wording_idf"], tensors["wording_weights"], intercept)
    return Ranker(RankerRecord.model_validate_json(content), RankerModels(wording, networks))


RANKERS = FittedModels("ranker", "_rankers", "run `sbert summarize` with its labels", _build)
