"""Find items that go together: taken by the same users, or taken soon after one another."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

__all__ = ["taken_next", "taken_together"]

BLOCK_CELLS = 16_000_000
"""Similarities that are in memory at the same time."""
MAX_ITEMS = 1_000
"""Items of a user that count: those with the largest weights. A user who took everything says little."""
WINDOW = 20
"""Following events of a user among which an item counts as one that came after."""
WINDOW_HALF_LIFE = 7.0
"""Events after which a following item counts half."""


def taken_next(
    users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], num_items: int, num_neighbours: int
) -> sp.csr_matrix:
    """Return how often the column's item came soon after the row's item, at most `num_neighbours` in a row.

    Args:
        users: user of each event, ordered by user and time.
        items: item of each event.
        num_items: number of items.
        num_neighbours: items kept for each item.
    """
    after_KK = sp.csr_matrix((num_items, num_items), dtype=np.float32)
    for distance in range(1, min(WINDOW, len(users) - 1) + 1):
        is_same = (users[distance:] == users[:-distance]) & (items[distance:] != items[:-distance])
        at = (items[:-distance][is_same], items[distance:][is_same])
        weights = np.full(len(at[0]), 0.5 ** ((distance - 1) / WINDOW_HALF_LIFE), np.float32)
        after_KK = after_KK + sp.csr_matrix((weights, at), shape=after_KK.shape)
    return _largest(sp.csr_matrix(after_KK), num_neighbours)


def taken_together(taken_UK: sp.csr_matrix, num_neighbours: int, shrinkage: float) -> sp.csr_matrix:
    """Return the similarity of each item with its nearest items, shape (K, K), at most `num_neighbours` in a row.

    The similarity is the cosine of the sets of users who took the items, with `shrinkage` users added to the denominator:
    common / (sqrt(users of one * users of the other) + shrinkage).
    """
    is_taken_UK = _capped(taken_UK)
    is_taken_KU = is_taken_UK.T.tocsr()
    num_users_K = np.asarray(is_taken_UK.sum(axis=0)).ravel()
    num_items = is_taken_UK.shape[1]
    size = max(1, BLOCK_CELLS // max(1, num_items))
    blocks = [sp.csr_matrix((0, num_items), dtype=np.float32)]
    for begin in range(0, num_items, size):
        common = sp.csr_matrix(is_taken_KU[begin : begin + size] @ is_taken_UK)
        rows = np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
        norm = np.sqrt(num_users_K[begin + rows] * num_users_K[common.indices]) + shrinkage
        common.data = np.where(begin + rows == common.indices, 0, common.data / norm).astype(np.float32)
        blocks.append(_largest(common, num_neighbours))
    return sp.csr_matrix(sp.vstack(blocks))


def _capped(taken_UK: sp.csr_matrix) -> sp.csr_matrix:
    is_taken = _largest(taken_UK.copy(), MAX_ITEMS)
    is_taken.data = np.ones_like(is_taken.data)
    return is_taken


def _largest(matrix: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Return the matrix with the `count` largest values of each row; of equal values the smaller column stays."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept: npt.NDArray[np.int64] = np.sort(order[(place < count) & (matrix.data[order] > 0)])
    return sp.csr_matrix((matrix.data[kept].astype(np.float32), (rows[kept], matrix.indices[kept])), shape=matrix.shape)
