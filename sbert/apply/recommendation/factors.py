"""Factors of users and items from implicit feedback, by alternating least squares.

Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets (2008), equations 4 and 5.
"""

import numpy as np
import scipy.sparse as sp

from sbert.vectors.precision import Float32

__all__ = ["fit_factors", "solve_factors"]


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
    """Return the factors of each row given those of the columns; this also folds in a new user."""
    gram_FF = other_CF.T @ other_CF + regularization * np.eye(other_CF.shape[1], dtype=np.float32)
    solved_RF = np.zeros((weights_RC.shape[0], other_CF.shape[1]), np.float32)
    for row in range(weights_RC.shape[0]):
        span = slice(weights_RC.indptr[row], weights_RC.indptr[row + 1])
        columns, weights = weights_RC.indices[span], weights_RC.data[span]
        if not len(columns):
            continue
        seen_SF = other_CF[columns]
        left_FF = gram_FF + (seen_SF * (alpha * weights)[:, None]).T @ seen_SF
        solved_RF[row] = np.linalg.solve(left_FF, seen_SF.T @ (1 + alpha * weights))
    return solved_RF
