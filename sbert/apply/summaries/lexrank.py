"""LexRank: a sentence matters when sentences that matter are like it.

Erkan and Radev 2004, "LexRank: Graph-based Lexical Centrality as Salience in Text Summarization", Journal of Artificial
Intelligence Research 22, section 3.3 (continuous LexRank). Cosines are those of sentence vectors, not of word counts.
"""

import numpy as np

from sbert.vectors.precision import Float32

__all__ = ["DAMPING", "lexrank"]

DAMPING = 0.15
"""Chance to jump to any sentence; section 3.2 of the paper names 0.1 to 0.2."""
MAX_STEPS = 200
TOLERANCE = 1e-7


def lexrank(vectors_SD: Float32, damping: float = DAMPING) -> Float32:
    """Return the LexRank of S sentences, shape (S,); together 1.

    Args:
        vectors_SD: unit vectors; memory and time grow with the square of S.
        damping: chance to jump to any sentence.
    """
    num = len(vectors_SD)
    if num < 2:
        return np.ones(num, np.float32)
    cosines_SS = np.maximum(vectors_SD @ vectors_SD.T, 0).astype(np.float64)
    np.fill_diagonal(cosines_SS, 1.0)
    steps_SS = cosines_SS / cosines_SS.sum(axis=1, keepdims=True)
    rank_S = np.full(num, 1 / num)
    for _ in range(MAX_STEPS):
        before_S = rank_S
        rank_S = damping / num + (1 - damping) * (before_S @ steps_SS)
        if np.abs(rank_S - before_S).sum() < TOLERANCE:
            break
    return rank_S.astype(np.float32)
