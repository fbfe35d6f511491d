"""The words that a question and an answer share, as a number from 0 to 1 that no other row changes.

The number is the BM25 score of the answer (see `sbert.index.words.bm25`) divided by the score that an answer with all words
of the question many times could have. The answers that hold a word, and the mean length, are counted once, when the model is
made. Otherwise every new answer would change the score of every pair, and nothing could be kept from night to night.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse

from sbert.index.words.bm25 import BM25_B, BM25_K1
from sbert.index.words.postings import build_postings, hash_terms
from sbert.index.words.terms import terms_of
from sbert.vectors.precision import Float32

__all__ = ["AnswerWords", "QuestionWords", "WordCounts", "answer_words", "count_words", "question_words"]

FREQUENT_SHARE = 0.2
"""Terms in more than this share of the answers say little, and cost most of the work."""
MANY_ANSWERS = 1_000
"""Number of answers from which on frequent terms are left out."""

UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class WordCounts:
    """Number of answers that hold each of T terms, among N answers."""

    terms_T: UInt64
    """Hashes of the terms, ascending."""
    answers_T: npt.NDArray[np.int64]
    num_answers: int
    mean_length: float
    """Terms of an answer, on average."""

    def idf(self, terms: UInt64) -> Float32:
        """Return ``ln(1 + (N - n + 0.5) / (n + 0.5))`` of each term; 0 for terms that are left out."""
        holders = np.zeros(len(terms), np.int64)
        if len(self.terms_T):
            places = np.minimum(np.searchsorted(self.terms_T, terms), len(self.terms_T) - 1)
            is_counted = self.terms_T[places] == terms
            holders[is_counted] = self.answers_T[places[is_counted]]
        idf = np.log1p((self.num_answers - holders + 0.5) / (holders + 0.5))
        if self.num_answers >= MANY_ANSWERS:
            idf[holders > FREQUENT_SHARE * self.num_answers] = 0
        return np.asarray(idf, np.float32)


@dataclass(frozen=True)
class AnswerWords:
    """Terms of a block of answers."""

    terms_T: UInt64
    weights_TN: scipy.sparse.csr_array
    """The part of BM25 that depends on the answer, for each term and answer."""


@dataclass(frozen=True)
class QuestionWords:
    """Terms of questions."""

    terms_T: UInt64
    weights_QT: scipy.sparse.csr_array
    """The idf of each term, divided by the best score of the question."""

    def scores(self, answers: AnswerWords) -> scipy.sparse.csr_array:
        """Return the word match of each question with each answer, shape (Q, N)."""
        _, ours, theirs = np.intersect1d(self.terms_T, answers.terms_T, assume_unique=True, return_indices=True)
        return (self.weights_QT[:, ours] @ answers.weights_TN[theirs]).tocsr()

    def part(self, questions: slice) -> "QuestionWords":
        """Return some of the questions."""
        return QuestionWords(self.terms_T, self.weights_QT[questions])


def count_words(texts: pl.Series) -> WordCounts:
    """Count the terms of all answers."""
    postings = build_postings([texts])
    lengths = postings.lengths_R
    return WordCounts(
        terms_T=postings.terms_T,
        answers_T=np.diff(postings.starts_T),
        num_answers=len(texts),
        mean_length=max(float(lengths.mean()) if len(lengths) else 0.0, 1.0),
    )


def answer_words(texts: pl.Series, counts: WordCounts) -> AnswerWords:
    """Return the terms of answers with the part of their BM25 score that does not depend on the question."""
    postings = build_postings([texts])
    rows, frequency = postings.rows_P[slice(None)], postings.counts_P[slice(None)].astype(np.float32)
    length = postings.lengths_R[rows] / counts.mean_length
    weight = frequency / (frequency + BM25_K1 * (1 - BM25_B + BM25_B * length))
    matrix = scipy.sparse.csr_array(
        (weight.astype(np.float32), rows.astype(np.int32), postings.starts_T),
        shape=(len(postings.terms_T), len(texts)),
    )
    return AnswerWords(postings.terms_T, matrix)


def question_words(texts: Sequence[str], counts: WordCounts) -> QuestionWords:
    """Return the different terms of questions, weighted so that a perfect answer has the word match 1."""
    terms = terms_of(pl.Series(texts, dtype=pl.String)).list.unique(maintain_order=True)
    flat = pl.DataFrame({"row": np.arange(len(texts)), "term": terms}).explode("term").drop_nulls("term")
    hashes = hash_terms(flat["term"])
    unique, places = np.unique(hashes, return_inverse=True)
    idf = counts.idf(unique)[places]
    rows = flat["row"].to_numpy()
    best = np.bincount(rows, idf, minlength=len(texts)).astype(np.float32)
    weight = idf / np.maximum(best[rows], np.float32(1e-9))
    matrix = scipy.sparse.csr_array((weight, (rows, places)), shape=(len(texts), len(unique)))
    return QuestionWords(unique, matrix)
