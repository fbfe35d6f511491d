"""The fitted model, which every night uses: weights, calibration, thresholds, and counts of words.

It is stored as a JSON file and a safetensors file under the hash of their content. A run that fits again writes other files,
and the output is computed anew.
"""

import hashlib
import json
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.answers.settings import FusionWeights
from sbert.apply.answers.shared_words import WordCounts
from sbert.errors import TableError
from sbert.storage.files import join, read_bytes, write_bytes

__all__ = [
    "FEATURES",
    "AnswerModel",
    "Calibration",
    "CurvePoint",
    "FitQuality",
    "FittedModel",
    "fixed_calibrations",
    "load_model",
    "save_model",
]

MODEL_FOLDER = "_model"
FEATURES = ("score", "margin", "cosine", "answer_cosine", "words", "lead")
"""Values that the probability is computed from; see `sbert.apply.answers.decide.features`."""

Float64 = npt.NDArray[np.float64]


class Calibration(BaseModel):
    """A logistic regression over `FEATURES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coefficients: tuple[float, ...] = Field(description="One for each feature.")
    intercept: float
    threshold: float = Field(description="Least probability at which the promised error holds; above 1 for never.")

    def probability(self, features_QF: Float64) -> Float64:
        """Return the probability of each row of features."""
        # a matrix product may add in another order for another number of rows; a night must give what a full run gives
        logits = np.clip((features_QF * np.array(self.coefficients)).sum(axis=1) + self.intercept, -30, 30)
        return np.asarray(1 / (1 + np.exp(-logits)))


class CurvePoint(BaseModel):
    """Error at one share of answered questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promised_error: float
    coverage: float = Field(description="Share of the questions that are answered.")
    error: float = Field(description="Share of wrong ones among the given answers.")


class FitQuality(BaseModel):
    """Quality by cross-validation of the calibration; shares are of the expected mix with questions without an answer.

    The weights of the score were fitted once, to all questions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_questions: int
    num_unmatched: int = Field(description="Labels whose answer is no row of the answers table.")
    best_is_right: float = Field(description="Share of the questions whose best answer is right.")
    auroc: float = Field(description="Chance that a right best answer has a higher probability than a wrong one.")
    auroc_low: float
    auroc_high: float
    coverage: float
    error: float
    error_low: float
    error_high: float
    curve: tuple[CurvePoint, ...]


class AnswerModel(BaseModel):
    """Everything that decides an answer beside the tables; the counts of words are beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Literal["fixed", "labels"] = Field(description="Whether labels were there to fit it.")
    weights: FusionWeights
    first: Calibration = Field(description="Whether the best answer is right.")
    first_two: Calibration = Field(description="Whether one of the two best answers is right.")
    promised_error: float
    token_length: float | None = Field(description="Characters for each token of the answers; empty if unknown.")
    letters: str | None = Field(default=None, description="Letters beyond ASCII of the answers; empty if unknown.")
    encoder_fingerprint: str
    num_answers: int
    mean_length: float = Field(description="Terms of an answer, on average.")
    labels_fingerprint: str | None = Field(default=None, description="Hash of the labels that it was fitted to.")
    quality: FitQuality | None = None


class FittedModel(BaseModel):
    """A model with its counts of words."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    record: AnswerModel
    counts: WordCounts


def fixed_calibrations() -> tuple[Calibration, Calibration]:
    """Return the calibrations that are used without labels.

    They are a guess and promise nothing: no labels tell how often answers are right. The report says so.
    """
    first = Calibration(coefficients=(8.0, 8.0, 0.0, 0.0, 0.0, 4.0), intercept=-6.0, threshold=0.95)
    return first, first.model_copy(update={"intercept": -5.5})


def save_model(out_uri: str, model: FittedModel) -> tuple[str, str]:
    """Write a model beside the output; return its location without ending, and its hash."""
    from safetensors.numpy import save

    content = json.dumps(model.record.model_dump(mode="json"), sort_keys=True).encode()
    arrays = bytes(save({"terms": model.counts.terms_T, "answers": model.counts.answers_T}))
    digest = hashlib.sha256(content + arrays).hexdigest()[:32]
    uri = join(out_uri, MODEL_FOLDER, digest)
    write_bytes(f"{uri}.safetensors", arrays)
    write_bytes(f"{uri}.json", content)
    return uri, digest


def load_model(uri: str) -> FittedModel:
    """Read a model.

    Raises:
        TableError: its files are damaged.
        MissingError, StorageError: they are gone, or storage refuses.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content, arrays = read_bytes(f"{uri}.json"), read_bytes(f"{uri}.safetensors")
    if hashlib.sha256(content + arrays).hexdigest()[:32] != uri.rpartition("/")[2]:
        raise TableError(f"{uri}: the files of this model are damaged: fit again with labels, or remove both files")
    try:
        model, tensors = AnswerModel.model_validate_json(content), load(arrays)
    except (SafetensorError, ValueError) as error:
        raise TableError(f"{uri}: this model cannot be read ({error}): fit again with labels") from error
    assert math.isfinite(model.mean_length)
    return FittedModel(
        record=model, counts=WordCounts(tensors["terms"], tensors["answers"], model.num_answers, model.mean_length)
    )
