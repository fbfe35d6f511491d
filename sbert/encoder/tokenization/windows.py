"""Join the vectors of a long text's windows into one vector."""

import numpy as np
import numpy.typing as npt

from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.vectors.unit import unit_rows

__all__ = ["join_windows"]


def join_windows(
    tokens: TokenizedTexts, vectors_SD: npt.NDArray[np.float32], *, normalize: bool
) -> npt.NDArray[np.float32]:
    """Average the windows of each of N texts, weighted by their numbers of tokens. A text of one window stays as it is.

    Args:
        tokens: the texts, cut into S windows.
        vectors_SD: the windows' vectors, shape (S, dim).
        normalize: whether to scale the averages to unit length.
    """
    num_texts = len(tokens)
    if len(vectors_SD) == num_texts:
        return vectors_SD
    counts = np.bincount(tokens.text_index, minlength=num_texts)
    first = np.cumsum(counts) - counts
    joined: npt.NDArray[np.float32] = vectors_SD[first]
    weights = tokens.lengths.astype(np.float64)
    sums = np.add.reduceat(vectors_SD * weights[:, None], first, axis=0)
    means = sums / np.add.reduceat(weights, first)[:, None]
    if normalize:
        means = unit_rows(means)
    several = counts > 1
    joined[several] = means[several]
    return joined
