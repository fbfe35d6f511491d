"""Words that set topics apart, by class-based tf-idf.

A word has the weight ``tf * log(1 + A / f)`` in a topic: ``tf`` is its share of the words of the topic, ``f`` how often it
occurs in all topics, and ``A`` the mean number of words of a topic (Grootendorst 2022, "BERTopic: Neural topic modeling
with a class-based TF-IDF procedure", section 3.3). A word counts only where it is more frequent than in all texts.
Stop words and parts of URLs do not count.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.grouped_words import choose_grouped_words

__all__ = ["telling_words"]

MIN_LIFT = 1.5
"""Times that a word must be as frequent in a topic as in all texts."""
MIN_SHARE = 0.01
"""Share of a topic's texts that must hold a word; rarer words are accidents."""


def telling_words(texts: pl.Series, groups_N: npt.NDArray[np.int64], num_words: int = 8) -> dict[int, tuple[str, ...]]:
    """Return up to `num_words` words of each group, the most telling first; groups without words are left out.

    Args:
        texts: N texts.
        groups_N: number of each text's group.
        num_words: words of a group, at most.
    """

    def rank(counts: pl.DataFrame) -> pl.DataFrame:
        num_all_words = int(counts["count"].sum())
        mean_words = num_all_words / max(counts["group"].n_unique(), 1)
        share = pl.col("count") / pl.col("group_words")
        return (
            counts.filter(
                share >= MIN_LIFT * pl.col("count_everywhere") / max(num_all_words, 1),
                pl.col("num_texts") >= (MIN_SHARE * pl.col("group_size")).clip(lower_bound=2),
            )
            .with_columns(weight=share * (1 + mean_words / pl.col("count_everywhere")).log())
            .sort(["group", "weight", "word"], descending=[False, True, False])
        )

    return {group: tuple(words[:num_words]) for group, words in choose_grouped_words(texts, groups_N, rank).items()}
