"""The wording of a sentence as one number: how much more ROUGE than the mean of its document its words promise.

People begin the sentence that matters with words such as "we propose" or "results show". Ridge regression on runs of one to
three terms learns such words (TF-IDF weights). Terms are hashed, so no word of a document is kept in a ranker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge

from sbert.apply.summaries.features import ranks_of
from sbert.vectors.precision import Float32

__all__ = ["NUM_HASHES", "WORDING_FEATURES", "WordingModel", "count_runs", "fit_wording", "wording_features"]

NUM_HASHES = 2**18
LONGEST_RUN = 3
BEGIN = "\x02"
"""Mark before the first term, by which words at the beginning of a sentence differ from the same words inside."""
TOLERANCE = 1e-3
WORDING_FEATURES = ("wording", "wording_rank")
"""Promise of the sentence, and the share of the document's other sentences that promise less."""

Terms = Sequence[Sequence[str]]


@dataclass(frozen=True)
class WordingModel:
    """Weights of hashed runs of terms, with their inverse document frequencies multiplied in."""

    idf_W: Float32
    weights_W: Float32
    intercept: float

    def scores(self, runs_NW: scipy.sparse.csr_matrix) -> Float32:
        """Return the promise of each sentence, shape (N,), in units of ROUGE.

        Args:
            runs_NW: from `count_runs`.
        """
        return np.asarray(_weighted(runs_NW, self.idf_W) @ self.weights_W + self.intercept, np.float32)


def count_runs(terms: Terms) -> scipy.sparse.csr_matrix:
    """Return which runs of one to three terms each of N sentences has, by their hashes, shape (N, `NUM_HASHES`)."""
    hashing = HashingVectorizer(
        analyzer=_runs, n_features=NUM_HASHES, alternate_sign=False, norm=None, binary=True, dtype=np.float32
    )
    return hashing.transform(terms)


def fit_wording(runs_NW: scipy.sparse.csr_matrix, gain_N: npt.NDArray[np.float32], penalty: float) -> WordingModel:
    """Fit weights by ridge regression.

    Args:
        runs_NW: from `count_runs`.
        gain_N: ROUGE of each sentence minus the mean of its document.
        penalty: strength of the penalty on weights.
    """
    holders_W = np.asarray((runs_NW > 0).sum(axis=0)).ravel()
    idf_W = (np.log((1 + runs_NW.shape[0]) / (1 + holders_W)) + 1).astype(np.float32)
    ridge = Ridge(alpha=penalty, solver="sparse_cg", tol=TOLERANCE)
    ridge.fit(_weighted(runs_NW, idf_W), gain_N)
    return WordingModel(idf_W, ridge.coef_.astype(np.float32), float(ridge.intercept_))


def wording_features(scores_S: Float32) -> Float32:
    """Return the wording features of the S sentences of one document, shape (S, 2)."""
    return np.stack([scores_S, ranks_of(scores_S)], axis=1)


def _weighted(runs_NW: scipy.sparse.csr_matrix, idf_W: Float32) -> scipy.sparse.csr_matrix:
    """Return TF-IDF weights, each row of length 1."""
    weighted_NW = runs_NW.multiply(idf_W).tocsr()
    lengths_N = np.sqrt(np.asarray(weighted_NW.multiply(weighted_NW).sum(axis=1)).ravel())
    return scipy.sparse.diags(1 / np.maximum(lengths_N, 1e-12)) @ weighted_NW


def _runs(terms: Sequence[str]) -> list[str]:
    begun = [BEGIN, *terms]
    return [
        " ".join(begun[at : at + size]) for size in range(1, LONGEST_RUN + 1) for at in range(len(begun) - size + 1)
    ]
