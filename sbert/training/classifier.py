"""A sentence classifier: a linear head on an encoder's vectors, trained separately or end to end.

classifier = SentenceClassifier.fit(encoder, texts, labels)      # logistic regression on frozen vectors
classifier = SentenceClassifier.load("output/model")             # after objective cross_entropy
classifier.predict(["my card was swallowed"])
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.tokenization.texts import Texts
from sbert.errors import ModelError, TooFewLabelsError
from sbert.training.classifier_files import NAMES_FILE, ClassifierFiles
from sbert.training.losses.classes import CrossEntropyLoss

__all__ = ["SentenceClassifier", "head_accuracy", "save_head"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SentenceClassifier:
    """Classes from vectors: softmax of (vectors x weightᵀ + bias).

    Texts are encoded as documents, because a classifier is used on the rows of a table.

    Shapes: weight (C, D), bias (C,), for C classes and vectors of D values.
    """

    encoder: SentenceEncoder
    classes: tuple[str, ...]
    weight_CD: Floats
    bias_C: Floats

    @classmethod
    def fit(
        cls, encoder: SentenceEncoder, texts: Texts, labels: Sequence[str], *, inverse_penalty: float = 10.0
    ) -> Self:
        """Fit multinomial logistic regression on the vectors of `texts`. The encoder stays as it is.

        Args:
            encoder: encodes the texts.
            texts: N texts.
            labels: their classes.
            inverse_penalty: scikit-learn's C; larger fits closer.

        Raises:
            TooFewLabelsError: when there is one class only.
        """
        from sklearn.linear_model import LogisticRegression

        classes, numbers = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        if len(classes) < 2:
            raise TooFewLabelsError(
                f"all {len(numbers)} texts are of one class ({classes.tolist()}): label at least 2 classes"
            )
        model = LogisticRegression(C=inverse_penalty, max_iter=1_000)
        model.fit(encoder.encode(texts, side=Side.DOCUMENT), numbers)
        weight, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
        if len(classes) == 2:  # scikit-learn returns only the log-odds of the second class
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return cls(encoder, tuple(classes.tolist()), weight, bias)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load an encoder's folder with the head beside it.

        Raises:
            ModelError: when there is no head in the folder, or its files are damaged.
        """
        place = os.fspath(folder)
        files = ClassifierFiles.read(place)
        if files is None:
            raise ModelError(
                f"{place}: no classifier here ({NAMES_FILE}): train with objective cross_entropy, or fit and save one"
            )
        return cls(SentenceEncoder.from_pretrained(place), files.classes, files.weight_CD, files.bias_C)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write encoder and head. sentence-transformers can load the encoder from the folder."""
        self.encoder.save_pretrained(folder)
        ClassifierFiles(self.classes, self.weight_CD, self.bias_C).write(Path(folder))

    def probabilities(self, texts: Texts) -> Floats:
        """Return each text's probability of each class, shape (N, C)."""
        logits_NC = self.encoder.encode(texts, side=Side.DOCUMENT) @ self.weight_CD.T + self.bias_C
        logits_NC -= logits_NC.max(axis=1, keepdims=True)
        shares_NC = np.exp(logits_NC)
        return shares_NC / shares_NC.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def predict(self, texts: Texts) -> list[str]:
        """Return each text's most probable class."""
        return [self.classes[number] for number in self.probabilities(texts).argmax(axis=1)]


def head_accuracy(loss: nn.Module, classes: tuple[str, ...], dev: pl.DataFrame) -> Callable[[SentenceEncoder], float]:
    """Return the function that measures the accuracy of an encoder with the present head of a cross-entropy training."""
    assert isinstance(loss, CrossEntropyLoss)
    truth = dev["label"].to_list()

    def score(encoder: SentenceEncoder) -> float:
        predicted = SentenceClassifier(encoder, classes, *_head(loss)).predict(dev["text"])
        return float(np.mean([ours == true for ours, true in zip(predicted, truth, strict=True)]))

    return score


def _head(loss: CrossEntropyLoss) -> tuple[Floats, Floats]:
    weight = (loss.classifier.weight.detach() * loss.scale).cpu().numpy()
    return weight, loss.classifier.bias.detach().cpu().numpy()


def save_head(loss: nn.Module, classes: tuple[str, ...], folder: Path) -> None:
    """Write the classifier of a cross-entropy training beside its encoder. Other objectives have none."""
    if isinstance(loss, CrossEntropyLoss):
        ClassifierFiles(classes, *_head(loss)).write(folder)
