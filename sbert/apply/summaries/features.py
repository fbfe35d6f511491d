"""Features of a sentence beside its vector: its place, its length, and its similarity to the other sentences.

Each feature is of one document alone, so no other document changes it. Shapes: S sentences, F features, D values.
"""

from collections import Counter

import numpy as np

from sbert.apply.summaries.lexrank import lexrank
from sbert.apply.summaries.sentences import SentenceList
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_vector

__all__ = ["FEATURES", "centroid_of", "ranks_of", "sentence_features"]

FEATURES = (
    "place",
    "place_from_start",
    "place_from_end",
    "is_first",
    "is_last",
    "log_sentences",
    "log_words",
    "words_to_mean",
    "centroid",
    "centroid_rank",
    "lexrank",
    "lexrank_rank",
    "before",
    "after",
    "nearest",
    "mean_similarity",
    "first_similarity",
    "term_weight",
    "term_share",
    "rare_terms",
    "digits",
    "capitals",
    "marks",
)
"""In the order of the columns: place 0 (first) to 1 (last); 1 over the distance from start and end, in sentences; whether it
is the first or last; logarithms of sentences of the document and words of the sentence; words over the mean of the document;
cosine with the centroid, LexRank times S, and their ranks (0 to 1); cosines with the sentence before and after, the nearest
one, the mean of all others, and the first; mean share in the document of its terms, share of the document's terms that it
has, share of its terms that stand in no other sentence; shares of digits, capitals and punctuation among its characters."""


def centroid_of(vectors_SD: Float32) -> Float32:
    """Return the mean of sentence vectors at unit length, shape (D,)."""
    return unit_vector(vectors_SD.mean(axis=0))


def sentence_features(sentences: SentenceList, vectors_SD: Float32) -> Float32:
    """Return the features of the sentences of one document, shape (S, F).

    Args:
        sentences: S sentences.
        vectors_SD: their unit vectors.
    """
    num = len(sentences)
    if not num:
        return np.zeros((0, len(FEATURES)), np.float32)
    at_S = np.arange(num)
    cosines_SS = vectors_SD @ vectors_SD.T
    others = max(1, num - 1)
    centroid_S = vectors_SD @ centroid_of(vectors_SD)
    rank_S = lexrank(_with_itself(cosines_SS)) * num
    between = np.diagonal(cosines_SS, offset=1) if num > 1 else np.zeros(0, np.float32)
    apart_SS = cosines_SS - 2 * np.eye(num, dtype=np.float32)
    words_S = sentences.num_words_S.astype(np.float32)
    columns = [
        at_S / others,
        1 / (1 + at_S),
        1 / (num - at_S),
        at_S == 0,
        at_S == num - 1,
        np.full(num, np.log1p(num)),
        np.log1p(words_S),
        words_S / max(1.0, float(words_S.mean())),
        centroid_S,
        ranks_of(centroid_S),
        rank_S,
        ranks_of(rank_S),
        np.concatenate([[0.0], between]),
        np.concatenate([between, [0.0]]),
        apart_SS.max(axis=1) if num > 1 else np.zeros(1),
        (cosines_SS.sum(axis=1) - 1) / others,
        cosines_SS[0],
        *_term_columns(sentences),
        *_character_columns(sentences),
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


def _with_itself(cosines_SS: Float32) -> Float32:
    """Return cosines with exactly 1 on the diagonal."""
    whole_SS = cosines_SS.copy()
    np.fill_diagonal(whole_SS, 1)
    return whole_SS


def ranks_of(values_S: Float32) -> Float32:
    """Return the share of the other values that are lower, 0 to 1."""
    ranks_S = np.empty(len(values_S), np.float32)
    ranks_S[np.argsort(values_S, kind="stable")] = np.arange(len(values_S)) / max(1, len(values_S) - 1)
    return ranks_S


def _term_columns(sentences: SentenceList) -> tuple[list[float], list[float], list[float]]:
    """Return the mean weight of a sentence's terms, the share of the document's terms that it has, and of its own alone.

    The first is the average probability of SumBasic (Nenkova and Vanderwende 2005).
    """
    counts: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for terms in sentences.terms:
        counts.update(terms)
        holders.update(set(terms))
    total, different = max(1, counts.total()), max(1, len(counts))
    weight = [sum(counts[term] for term in terms) / total / max(1, len(terms)) for terms in sentences.terms]
    share = [len(set(terms)) / different for terms in sentences.terms]
    alone = [sum(holders[term] == 1 for term in set(terms)) / max(1, len(set(terms))) for terms in sentences.terms]
    return weight, share, alone


def _character_columns(sentences: SentenceList) -> tuple[list[float], list[float], list[float]]:
    digits, capitals, marks = [], [], []
    for text in sentences.texts:
        length = max(1, len(text))
        digits.append(sum(map(str.isdigit, text)) / length)
        capitals.append(sum(map(str.isupper, text)) / length)
        marks.append(sum(not (letter.isalnum() or letter.isspace()) for letter in text) / length)
    return digits, capitals, marks
