"""Classify by the words of texts beside their vectors: each word and pair of words has a weight for each class.

A vector holds the subject of a text. Single words that hardly change the subject can still tell classes apart, such as
"rose" and "fell". Words are terms and pairs of neighbouring terms, each weighed by its rarity among the labelled texts
(TF-IDF with logarithmic counts, rows of length 1), and logistic regression gives each a weight for each class. The
vocabulary is that of the labelled texts: at most `HeadSettings.max_terms` terms, none that a single text has. So a head has
a bounded size, and its weights can be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse
from pydantic import BaseModel, ConfigDict, Field
from sklearn.preprocessing import normalize

from sbert.apply.classification.regression import fit_regression
from sbert.index.words.terms import terms_of
from sbert.vectors.precision import Float32

__all__ = ["HeadWords", "TermCounts", "Texts", "TrainedWords", "WordScorer", "WordsUse", "count_terms", "train_words"]

MIN_TEXTS = 2
"""Texts that have a term, at least; a term of one text says nothing of others."""
MAX_CHARACTERS = 5_000
"""Characters of a text that are read: a book costs no more than a page."""
NUM_SPEAKING = 5

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Texts = Sequence[str | None] | pl.Series


class WordsUse(BaseModel):
    """Whether a head reads words, with the result of cross-validation."""

    model_config = ConfigDict(frozen=True)

    column: str = Field(description="Column of the table that holds the texts.")
    weight: float = Field(
        description="What the scores of words are multiplied by; 0 where the head reads vectors alone."
    )
    strength: float = Field(description="Inverse strength of the penalty on the weights of words; 0 without words.")
    num_terms: int = Field(description="Terms and pairs of terms that have weights.")
    macro_f1: float = Field(description="Best macro-F1 of cross-validation with words.")
    macro_f1_without: float = Field(description="Best macro-F1 of cross-validation with vectors alone.")


@dataclass(frozen=True)
class HeadWords:
    """The texts and settings that a head needs to consider words."""

    column: str
    texts: Texts
    """The N labelled texts."""


@dataclass(frozen=True)
class TermCounts:
    """How often each of N texts has each of V terms."""

    terms_V: pl.Series
    counts_NV: scipy.sparse.csr_array

    def take(self, rows: Int64) -> "TermCounts":
        """Return some of the texts, with all terms."""
        return TermCounts(self.terms_V, self.counts_NV[rows])


@dataclass(frozen=True)
class TrainedWords:
    """Weights of the terms in some columns of `TermCounts`."""

    columns_V: Int64
    idf_V: Float32
    weights_VC: Float32
    bias_C: Float32

    def scores(self, counts: TermCounts) -> Float64:
        """Return the score of each class, shape (N, C)."""
        return _scores(counts.counts_NV[:, self.columns_V], self.idf_V, self.weights_VC, self.bias_C)


@dataclass(frozen=True)
class WordScorer:
    """Scores texts by V terms, which `terms_V` names."""

    terms_V: pl.Series
    idf_V: Float32
    weights_VC: Float32
    bias_C: Float32

    def scores(self, texts: Texts) -> Float64:
        """Return the score of each class, shape (N, C); a text that is missing counts as empty."""
        counts_NV = _counted(_terms(texts), self.terms_V, len(texts))
        return _scores(counts_NV, self.idf_V, self.weights_VC, self.bias_C)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the tensors that are stored."""
        names = "\n".join(self.terms_V).encode()  # terms hold letters, digits and single spaces
        return {
            "word_terms": np.frombuffer(names, np.uint8),
            "word_idf": self.idf_V,
            "word_weights": self.weights_VC,
            "word_bias": self.bias_C,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> "WordScorer":
        """Return the scorer of stored tensors.

        Raises:
            KeyError, ValueError: something is missing, or the terms are not as many as their weights.
        """
        terms = tensors["word_terms"].tobytes().decode().split("\n")
        idf_V, weights_VC = tensors["word_idf"], tensors["word_weights"]
        if not len(terms) == len(idf_V) == len(weights_VC):
            raise ValueError(
                f"{len(terms):,} terms have {len(idf_V):,} inverse document frequencies and {len(weights_VC):,} weights"
            )
        return cls(pl.Series(terms, dtype=pl.String), idf_V, weights_VC, tensors["word_bias"])

    def speaking(self, classes: Sequence[str], *, against_others: bool = True) -> dict[str, list[str]]:
        """Return for each class the terms that speak for it most.

        Args:
            classes: the classes.
            against_others: compare each weight with the mean of all classes; False where classes do not exclude each other.
        """
        others_V1 = self.weights_VC.mean(axis=1, keepdims=True) if against_others else np.float32(0)
        weights_VC = self.idf_V[:, None] * (self.weights_VC - others_V1)
        speaking = {}
        for at, label in enumerate(classes):
            best = np.argsort(-weights_VC[:, at], kind="stable")[:NUM_SPEAKING]
            speaking[label] = self.terms_V.gather(best[weights_VC[best, at] > 0]).to_list()
        return speaking


def count_terms(texts: Texts) -> TermCounts:
    """Count the terms of labelled texts that at least two of them have."""
    terms_of_texts = _terms(texts)
    common = (
        terms_of_texts.group_by("term")
        .agg(pl.col("text").n_unique().alias("texts"))
        .filter(pl.col("texts") >= MIN_TEXTS)
    )
    terms_V = common["term"].sort()
    return TermCounts(terms_V, _counted(terms_of_texts, terms_V, len(texts)))


def train_words(counts: TermCounts, truth: Int64, strength: float, *, num_classes: int, max_terms: int) -> TrainedWords:
    """Fit weights of terms to N texts of known classes.

    Args:
        counts: terms of the texts.
        truth: their classes, as `fit_regression` takes them.
        strength: inverse strength of the penalty on weights.
        num_classes: C; a class without texts gets a score that no text reaches.
        max_terms: terms with weights at most, those that most texts have.
    """
    num_texts_V = np.bincount(counts.counts_NV.indices, minlength=counts.counts_NV.shape[1])
    order = np.argsort(-num_texts_V, kind="stable")[:max_terms]
    columns_V = np.sort(order[num_texts_V[order] >= MIN_TEXTS])
    if not len(columns_V):
        nothing = np.zeros((0, num_classes), np.float32)
        return TrainedWords(columns_V, np.zeros(0, np.float32), nothing, np.zeros(num_classes, np.float32))
    idf_V = (np.log((1 + len(truth)) / (1 + num_texts_V[columns_V])) + 1).astype(np.float32)
    weighed_NV = _weighed(counts.counts_NV[:, columns_V], idf_V)
    weights_VC, bias_C = fit_regression(weighed_NV, truth, strength, num_classes)
    return TrainedWords(columns_V, idf_V, weights_VC.astype(np.float32), bias_C.astype(np.float32))


def _terms(texts: Texts) -> pl.DataFrame:
    """Return the terms of texts and the pairs of neighbouring terms, as rows of `text` (its number) and `term`."""
    lists = terms_of(pl.Series(texts, dtype=pl.String).str.head(MAX_CHARACTERS)).alias("term")
    words = lists.to_frame().with_row_index("text").explode("term", empty_as_null=True).drop_nulls("term")
    pairs = (
        words.with_columns(after=pl.col("term").shift(-1), text_after=pl.col("text").shift(-1))
        .filter(pl.col("text") == pl.col("text_after"))
        .select("text", term=pl.concat_str("term", "after", separator=" "))
    )
    return pl.concat([words, pairs])


def _counted(terms: pl.DataFrame, known_V: pl.Series, num_texts: int) -> scipy.sparse.csr_array:
    """Count the known terms of each text, shape (num_texts, V)."""
    numbered = known_V.alias("term").to_frame().with_row_index("at")
    counted_terms = terms.join(numbered, on="term").group_by("text", "at").len().sort("text", "at")
    places = (counted_terms["text"].to_numpy(), counted_terms["at"].to_numpy())
    counts = scipy.sparse.coo_array(
        (counted_terms["len"].to_numpy().astype(np.float32), places), (num_texts, len(known_V))
    )
    return counts.tocsr()


def _weighed(counts_NV: scipy.sparse.csr_array, idf_V: Float32) -> scipy.sparse.csr_array:
    """Return TF-IDF in rows of length 1, as `TfidfTransformer(sublinear_tf=True)` of scikit-learn computes it."""
    if not counts_NV.nnz:
        return counts_NV
    values = (1 + np.log(counts_NV.data)) * idf_V[counts_NV.indices]
    logs_NV = scipy.sparse.csr_array((values, counts_NV.indices, counts_NV.indptr), counts_NV.shape)
    return normalize(logs_NV, copy=False)


def _scores(counts_NV: scipy.sparse.csr_array, idf_V: Float32, weights_VC: Float32, bias_C: Float32) -> Float64:
    return np.asarray(_weighed(counts_NV, idf_V) @ weights_VC + bias_C, np.float64)
