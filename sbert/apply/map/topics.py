"""Topics of a map: groups of near vectors, named by their typical words.

The words are ranked by their part of the Kullback-Leibler divergence between the words of a topic and all words (Tomokiyo
and Hurst 2003, "A Language Model Approach to Keyphrase Extraction"): ``p log(p / q)``, where ``p`` is the share of the word
among the words of the topic and ``q`` among all. Words that are not three times as frequent in the topic as in all texts do
not name it, nor do stop words and parts of URLs (`sbert.apply.grouped_words`).
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.grouped_words import choose_grouped_words

__all__ = ["name_groups", "topics_of"]

WORDS_IN_NAME = 3
WORDS_TRIED = 10
MIN_LIFT = 3.0
"""Times that a word must be as frequent in a topic as in all texts."""
MIN_SHARE = 0.01
"""Share of the rows of a topic that must hold a word of its name; rarer words are accidents."""
RESTARTS = 3


def topics_of(components_NC: npt.NDArray[np.float32], num_topics: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the number of each row's topic by k-means, shape (N,); the largest topic is 0.

    Args:
        components_NC: principal components of the rows, shape (N, C).
        num_topics: topics, at most; fewer where there are fewer different rows.
        seed: the same seed gives the same topics.
    """
    from sklearn.cluster import KMeans

    wanted = max(1, min(num_topics, len(np.unique(components_NC, axis=0))))
    labels = KMeans(wanted, n_init=RESTARTS, random_state=seed).fit_predict(components_NC)
    counts = np.bincount(labels, minlength=wanted)
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty(wanted, np.int64)
    ranks[order] = np.arange(wanted)
    numbers: npt.NDArray[np.int64] = ranks[labels]
    return numbers


def name_groups(texts: pl.Series, groups_N: npt.NDArray[np.int64]) -> list[str]:
    """Return a name for each group of texts, of up to three typical words; a group without any is numbered.

    Args:
        texts: N texts.
        groups_N: number of each text's group, from 0 on without holes.
    """
    num_groups = int(groups_N.max()) + 1 if len(groups_N) else 0

    def rank(counts: pl.DataFrame) -> pl.DataFrame:
        num_words = max(int(counts["count"].sum()), 1)
        share = pl.col("count") / pl.col("group_words")
        lift = share / (pl.col("count_everywhere") / num_words)
        return (
            counts.filter(lift >= MIN_LIFT, pl.col("num_texts") >= MIN_SHARE * pl.col("group_size"))
            .with_columns(weight=share * lift.log())
            .sort(["weight", "word"], descending=[True, False])
        )

    words = choose_grouped_words(texts, groups_N, rank)
    return [
        ", ".join(_different(words[group][:WORDS_TRIED])) if group in words else f"topic {group + 1}"
        for group in range(num_groups)
    ]


def _different(words: list[str]) -> list[str]:
    """Return the first words, without words that begin as an earlier one: ``cards`` adds nothing to ``card``."""
    words_kept: list[str] = []
    for word in words:
        if not any(word.startswith(other) or other.startswith(word) for other in words_kept):
            words_kept.append(word)
    return words_kept[:WORDS_IN_NAME]
