"""Criteria by which texts are chosen for labelling: uncertainty, disagreement, density, and diversity."""

import numpy as np
import numpy.typing as npt
import scipy.stats

from sbert.evaluation.geometry import Vectors, unit

__all__ = ["density", "k_center", "margin_uncertainty", "nearest", "neighbor_disagreement", "ranked"]

Values = npt.NDArray[np.float64]
ROWS_PER_CHUNK = 1_024


def nearest(vectors_ND: Vectors, num_neighbors: int) -> tuple[npt.NDArray[np.int64], Values]:
    """Return the K nearest other rows of each row, and their cosines, nearest first: shapes (N, K)."""
    unit_ND = unit(vectors_ND).astype(np.float32)
    num_rows = len(unit_ND)
    kept = min(num_neighbors, num_rows - 1)
    neighbors = np.empty((num_rows, kept), dtype=np.int64)
    cosines = np.empty((num_rows, kept))
    for first in range(0, num_rows, ROWS_PER_CHUNK):
        scores = unit_ND[first : first + ROWS_PER_CHUNK] @ unit_ND.T
        rows = np.arange(len(scores))
        scores[rows, first + rows] = -np.inf
        best = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        neighbors[first : first + len(scores)] = best
        cosines[first : first + len(scores)] = np.take_along_axis(scores, best, axis=1)
    return neighbors, cosines


def density(cosines_NK: Values) -> Values:
    """Return each row's mean cosine to its neighbours (Settles and Craven 2008, information density)."""
    return np.asarray(cosines_NK.mean(axis=1))


def neighbor_disagreement(ours_NK: npt.NDArray[np.int64], theirs_NK: npt.NDArray[np.int64]) -> Values:
    """Return ``1 - |A & B| / |A | B|`` of each row's neighbours in two spaces: 0 the same, 1 none in common."""
    shared = np.array([len(set(a) & set(b)) for a, b in zip(ours_NK.tolist(), theirs_NK.tolist(), strict=True)])
    return np.asarray(1.0 - shared / (2 * ours_NK.shape[1] - shared))


def margin_uncertainty(probabilities_NC: Values) -> Values:
    """Return one minus the margin between the two likeliest classes (Scheffer, Decomain and Wrobel 2001)."""
    best = np.sort(probabilities_NC, axis=1)[:, ::-1]
    return np.asarray(1.0 - (best[:, 0] - best[:, 1]))


def ranked(values: Values) -> Values:
    """Scale a criterion to 0 … 1 by rank, so that criteria of different scales can be added. Equal values stay equal."""
    if len(values) < 2:
        return np.ones(len(values))
    return np.asarray((scipy.stats.rankdata(values) - 1.0) / (len(values) - 1.0))


def k_center(vectors_ND: Vectors, num: int, first: int, labelled_MD: Vectors | None = None) -> list[int]:
    """Choose `num` rows so that every row is near a chosen one: greedy k-center (Sener and Savarese 2018, algorithm 1).

    Args:
        vectors_ND: the rows to choose from.
        num: how many.
        first: the row to begin with.
        labelled_MD: rows that are labelled already and count as chosen.
    """
    unit_ND = unit(vectors_ND)
    centers = [first]
    distances = 1.0 - unit_ND @ unit_ND[first]
    if labelled_MD is not None and len(labelled_MD):
        distances = np.minimum(distances, 1.0 - (unit_ND @ unit(labelled_MD).T).max(axis=1))
    distances[first] = -np.inf
    while len(centers) < min(num, len(unit_ND)):
        farthest = int(np.argmax(distances))
        centers.append(farthest)
        distances = np.minimum(distances, 1.0 - unit_ND @ unit_ND[farthest])
        distances[farthest] = -np.inf
    return centers
