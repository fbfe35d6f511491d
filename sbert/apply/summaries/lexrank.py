"""LexRank: a sentence matters when sentences that matter are like it.

Erkan and Radev 2004, "LexRank: Graph-based Lexical Centrality as Salience in Text Summarization", Journal of Artificial
Intelligence Research 22: continuous LexRank (section 3.3). Two sentences are as like as their words, weighted by inverse
sentence frequency (the idf-modified cosine of section 3), and as their vectors. The words have twice the weight of the
vectors, which was chosen on SciTLDR (`tests/benchmarks/LOG.md`).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from sbert.apply.summaries.sentences import SentenceList
from sbert.vectors.precision import Float32

__all__ = ["DAMPING", "lexrank", "rank_sentences", "word_cosines"]

DAMPING = 0.15
"""Chance to jump to any sentence; section 3.2 of the paper names 0.1 to 0.2."""
WEIGHT_OF_WORDS = 2.0
MAX_STEPS = 200
TOLERANCE = 1e-7


def rank_sentences(sentences: SentenceList, vectors_SD: Float32) -> Float32:
    """Return the LexRank of the S sentences of a document by words and vectors, shape (S,); together 1.

    Args:
        sentences: S sentences; memory and time grow with the square of S.
        vectors_SD: their unit vectors.
    """
    return lexrank(vectors_SD @ vectors_SD.T + WEIGHT_OF_WORDS * word_cosines(sentences.terms))


def lexrank(similarities_SS: Float32, damping: float = DAMPING) -> Float32:
    """Return the LexRank of S sentences, shape (S,); together 1.

    Args:
        similarities_SS: how like each sentence is to each other and to itself; negative values count as 0.
        damping: chance to jump to any sentence.
    """
    num = len(similarities_SS)
    if num < 2:
        return np.ones(num, np.float32)
    weights_SS = np.maximum(similarities_SS, 0).astype(np.float64)
    steps_SS = weights_SS / np.maximum(weights_SS.sum(axis=1, keepdims=True), 1e-12)
    rank_S = np.full(num, 1 / num)
    for _ in range(MAX_STEPS):
        before_S = rank_S
        rank_S = damping / num + (1 - damping) * (before_S @ steps_SS)
        if np.abs(rank_S - before_S).sum() < TOLERANCE:
            break
    return rank_S.astype(np.float32)


def word_cosines(terms: Sequence[Sequence[str]]) -> Float32:
    """Return the cosine of each two of S sentences by their words, shape (S, S); 1 with itself.

    A word that n of the S sentences have weighs ``ln((S + 1) / n)``.
    """
    num = len(terms)
    holders = Counter(term for sentence in terms for term in set(sentence))
    places = {term: at for at, term in enumerate(holders)}
    rows = [at for at, sentence in enumerate(terms) for _ in set(sentence)]
    columns = [term for sentence in terms for term in sorted(set(sentence))]
    values = [np.log((num + 1) / holders[term]) for term in columns]
    shape = (num, max(1, len(places)))
    weights_SW = scipy.sparse.csr_matrix((values, (rows, [places[term] for term in columns])), shape)
    lengths_S = np.sqrt(np.asarray(weights_SW.multiply(weights_SW).sum(axis=1)).ravel())
    unit_SW = scipy.sparse.diags(1 / np.maximum(lengths_S, 1e-12)) @ weights_SW
    cosines_SS: Float32 = np.asarray((unit_SW @ unit_SW.T).toarray(), np.float32)
    np.fill_diagonal(cosines_SS, 1)
    return cosines_SS
