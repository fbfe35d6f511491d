"""Factors of users and items from implicit feedback, by alternating least squares.

Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets (2008), equations 4 and 5.
"""

import numpy as np
import scipy.sparse as sp

from sbert.vectors.precision import Float32

__all__ = ["fit_factors", "solve_factors"]

BATCH_CELLS = 1_000_000
"""Values of the systems that are solved at the same time."""


def fit_factors(
    weights_UN: sp.csr_matrix, num_factors: int, regularization: float, alpha: float, num_rounds: int, seed: int
) -> tuple[Float32, Float32]:
    """Return factors of users, shape (U, factors), and of items, shape (N, factors).

    Args:
        weights_UN: weight of each user's events with each item; an item without events gets zeros.
        num_factors: length of the factors.
        regularization: L2 penalty.
        alpha: confidence is 1 + alpha * weight.
        num_rounds: times that both sides are solved.
        seed: seed of the first factors.
    """
    random = np.random.default_rng(seed)
    items_NF = random.normal(0, 0.1, (weights_UN.shape[1], num_factors)).astype(np.float32)
    weights_NU = weights_UN.T.tocsr()
    users_UF = np.zeros((weights_UN.shape[0], num_factors), np.float32)
    for _ in range(num_rounds):
        users_UF = solve_factors(weights_UN, items_NF, regularization, alpha)
        items_NF = solve_factors(weights_NU, users_UF, regularization, alpha)
    return users_UF, items_NF


def solve_factors(weights_RC: sp.csr_matrix, other_CF: Float32, regularization: float, alpha: float) -> Float32:
    """Return the factors of each row, given the factors of the columns; this also folds in a new user."""
    num_factors = other_CF.shape[1]
    gram_FF = other_CF.T @ other_CF + regularization * np.eye(num_factors, dtype=np.float32)
    solved_RF = np.zeros((weights_RC.shape[0], num_factors), np.float32)
    lengths_R = np.diff(weights_RC.indptr)
    rows = np.argsort(lengths_R, kind="stable")
    rows = rows[lengths_R[rows] > 0]
    while len(rows):  # rows of about the same length at once, the longest first
        longest = int(lengths_R[rows[-1]])
        batch, rows = np.split(rows[::-1], [max(1, BATCH_CELLS // (max(longest, num_factors) * num_factors))])
        rows = rows[::-1]
        place_S = np.arange(longest)
        is_there_BS = place_S < lengths_R[batch][:, None]
        at_BS = np.where(is_there_BS, weights_RC.indptr[batch][:, None] + place_S, 0)
        seen_BSF = other_CF[weights_RC.indices[at_BS]] * is_there_BS[:, :, None]
        growth_BS = (alpha * weights_RC.data[at_BS]).astype(np.float32)
        left_BFF = gram_FF + (seen_BSF * growth_BS[:, :, None]).transpose(0, 2, 1) @ seen_BSF
        right_BF1 = seen_BSF.transpose(0, 2, 1) @ (1 + growth_BS)[:, :, None]
        solved_RF[batch] = np.linalg.solve(left_BFF, right_BF1)[:, :, 0]
    return solved_RF
