"""A classifier on frozen vectors: its computation, and its files.

A head is logistic regression on features of a vector. The features are the centred vector with length 1, or its Gaussian
similarities to some labelled texts (the Nyström method, Williams and Seeger 2001, "Using the Nyström Method to Speed Up
Kernel Machines"). Or a head is the classifier that was trained together with the encoder, on the vector as it is. Words of
the text may add to the scores (`sbert.apply.classification.words`). Probabilities are calibrated by one temperature (Guo et
al. 2017, "On Calibration of Modern Neural Networks").

A head lies beside the output that it makes: ``OUT/_heads/FINGERPRINT/head.safetensors`` and ``head.json``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse
from sbert.apply.classification.rules import Rule, rule_features
from sbert.apply.classification.rules_use import RulesUse
from sbert.apply.classification.search_use import SearchUse
from sbert.apply.classification.settings import HeadKind
from sbert.apply.classification.words import Texts, WordScorer, WordsUse
from sbert.apply.fitted_models import FittedModels, Tensors
from sbert.vectors.unit import unit_rows

__all__ = ["HEADS", "Float64", "Head", "HeadRecord", "Scorer", "ScorerRecord", "scorer_tensors"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class ScorerRecord(BaseModel):
    """The record of any head beside its weights."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Hash of labels, encoder, settings and code that made the head.")
    encoder_fingerprint: str = Field(description="The encoder whose vectors it classifies.")
    labels_fingerprint: str = Field(description="Hash of the labelled rows.")
    task: str = Field(description="Column of the labels; empty for the label column.")
    kind: HeadKind
    strength: float = Field(description="Inverse strength of the penalty on weights.")
    classes: list[str] = Field(description="The classes, sorted.")
    num_rows: int = Field(description="Labelled rows that the head was fitted on.")
    chosen: list[dict[str, float | str]] = Field(description="Settings that were tried, and their macro-F1.")
    rules: tuple[Rule, ...] = Field(default=(), description="Rules whose matches are features beside the vector.")
    text_column: str = Field(default="", description="Column of the table that rules are matched with.")
    num_weak_rows: int = Field(default=0, description="Rows without a label that rules gave a class to learn from.")
    rules_use: RulesUse | None = Field(
        default=None,
        description="Which part of the rules the head takes; None where no part was chosen: without rules, with lists of "
        "classes, for the encoder's own classifier, and in earlier releases.",
    )
    words: WordsUse | None = Field(
        default=None, description="Whether the head reads words; None where it was fitted without looking at them."
    )
    learned: LearnedUse | None = Field(
        default=None,
        description="Which labelled rows chose and calibrated the head; None where all did, and in heads of earlier "
        "releases.",
    )
    classifier: ClassifierUse | None = Field(
        default=None, description="Whether the head is the encoder's own classifier; None where it was not considered."
    )
    search: SearchUse | None = Field(default=None, description="Outcome of the search of settings; None without one.")


class HeadRecord(ScorerRecord):
    """The record of a head of one class a row: `head.json`."""

    confusion: list[list[int]] = Field(
        description="Rows of each true class (outer list) by predicted class, each predicted by a head that had not seen "
        "the row; in the order of `classes`."
    )
    temperature: float = Field(description="Scores are divided by this before they become probabilities.")
    abstain_below: float = Field(
        description="The head abstains where the largest probability is below this; 2 for always."
    )
    set_scores: list[float] = Field(
        description="For each class: it belongs to the set of a row where 1 minus its probability is at most this."
    )


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Weights of F features and C classes for vectors of D values: the scores of every kind of head."""

    record: ScorerRecord
    mean_D: Float32
    """Mean of the vectors that the head was fitted on."""
    landmarks_LD: Float32
    """Texts that a kernel head compares with, centred and of length 1; no rows for a linear head."""
    gamma: float
    """Width of the Gaussian: the similarity of two unit vectors is ``exp(-gamma |x - y|²)``."""
    weights_FC: Float32
    bias_C: Float32
    rule_weights_KC: Float32 | None = None
    """Weights of the K classes that rules speak for; None without rules."""
    words: WordScorer | None = None
    """Weights of words; None where the head reads vectors alone."""

    @property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return self.record.classes

    @property
    def words_column(self) -> str:
        """The column of the table whose words the head reads; empty where it reads vectors alone."""
        return "" if self.words is None or self.record.words is None else self.record.words.column

    def scores(self, vectors_ND: Float32, texts: Texts | None = None, *, with_rules: bool = True) -> Float64:
        """Return the score of each class before calibration, shape (N, C).

        Args:
            vectors_ND: vectors of N rows.
            texts: their texts; a head that reads words needs them, and without them no rule speaks.
            with_rules: False to leave out what rules say.

        Raises:
            ValueError: the head reads words, and there are no texts.
        """
        if self.record.kind is HeadKind.CLASSIFIER:
            features_NF = vectors_ND
        else:
            features_NF = features(vectors_ND, self.mean_D, self.landmarks_LD, self.gamma)
        scores_NC = np.asarray(features_NF @ self.weights_FC + self.bias_C, np.float64)
        if self.words is not None:
            if texts is None:
                raise ValueError(f"the head {self.record.fingerprint} reads words: give the texts of the rows")
            scores_NC += self.words.scores(texts)
        if with_rules and texts is not None and self.rule_weights_KC is not None:
            scores_NC += rule_features(self.record.rules, texts) @ self.rule_weights_KC
        return scores_NC

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weights as they are stored."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "mean": self.mean_D,
            "landmarks": self.landmarks_LD,
            "gamma": np.array([self.gamma], np.float64),
            "weights": self.weights_FC,
            "bias": self.bias_C,
        }
        if self.rule_weights_KC is not None:
            tensors["rule_weights"] = self.rule_weights_KC
        return tensors if self.words is None else tensors | self.words.tensors()


@dataclass(frozen=True, kw_only=True)
class Head(Scorer):
    """A fitted classifier that names one class of each row."""

    record: HeadRecord

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Rows of each true class by predicted class, on rows that the predicting head had not seen, shape (C, C)."""
        return np.array(self.record.confusion, np.int64)

    def probabilities(self, vectors_ND: Float32, texts: Texts | None = None) -> Float64:
        """Return the calibrated probability of each class, shape (N, C); arguments as `scores`."""
        return softmax(self.scores(vectors_ND, texts) / self.record.temperature)

    def sets(self, probabilities_NC: Float64) -> npt.NDArray[np.bool_]:
        """Return which classes belong to the set of each row, shape (N, C); the likeliest class always does."""
        chosen_NC = 1 - probabilities_NC <= np.array(self.record.set_scores)
        chosen_NC[np.arange(len(chosen_NC)), probabilities_NC.argmax(axis=1)] = True
        return np.asarray(chosen_NC)

    def abstains(self, probabilities_NC: Float64) -> npt.NDArray[np.bool_]:
        """Return the rows on which the head cannot keep its promised error, shape (N,)."""
        return np.asarray(probabilities_NC.max(axis=1) < self.record.abstain_below)

    def save(self, out_uri: str) -> None:
        """Write the head beside the output."""
        HEADS.save(out_uri, self.record.fingerprint, self.record, self.tensors())


def _build(content: bytes, tensors: Tensors) -> Head:
    record = HeadRecord.model_validate_json(content)
    return Head(record=record, **scorer_tensors(record, tensors))


def scorer_tensors(record: ScorerRecord, tensors: Tensors) -> dict[str, Any]:
    """Return the fields of a `Scorer` beside its record, from its stored tensors."""
    return {
        "mean_D": tensors["mean"],
        "landmarks_LD": tensors["landmarks"],
        "gamma": float(tensors["gamma"][0]),
        "weights_FC": tensors["weights"],
        "bias_C": tensors["bias"],
        "rule_weights_KC": tensors["rule_weights"] if record.rules else None,
        "words": WordScorer.from_tensors(tensors) if record.words is not None and record.words.weight else None,
    }


HEADS = FittedModels("head", "_heads", "run `sbert classify` again", _build)


def features(vectors_ND: Float32, mean_D: Float32, landmarks_LD: Float32, gamma: float) -> Float32:
    """Return the features of vectors: the centred unit vector (N, D), or its similarities to landmarks (N, L)."""
    unit_ND = centred(vectors_ND, mean_D)
    if not len(landmarks_LD):
        return unit_ND
    exponents_NL = unit_ND @ landmarks_LD.T
    exponents_NL -= 1
    exponents_NL *= 2 * gamma  # |x - y|² = 2 - 2 x·y for unit vectors
    return np.asarray(np.exp(exponents_NL, out=exponents_NL), np.float32)


def centred(vectors_ND: Float32, mean_D: Float32) -> Float32:
    """Return vectors without their common part, with length 1: most vectors of an encoder share one direction."""
    return unit_rows(vectors_ND - mean_D)


def softmax(scores_NC: Float64) -> Float64:
    """Return probabilities that add up to 1 in each row."""
    shifted = np.exp(scores_NC - scores_NC.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
