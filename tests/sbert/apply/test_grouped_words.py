"""Counts of the words of groups of texts."""

import numpy as np
import polars as pl

from sbert.apply.grouped_words import count_grouped_words


def test_words_are_counted_in_their_group_and_everywhere() -> None:
    texts = pl.Series(["red card, red card", "blue 42 card", "", "blue sky"])
    counts = count_grouped_words(texts, np.array([0, 0, 0, 1])).sort("group", "word")
    assert counts.select(
        "group", "word", "count", "num_texts", "group_size", "count_everywhere", "group_words"
    ).rows() == [
        (0, "blue", 1, 1, 3, 2, 6),
        (0, "card", 3, 2, 3, 3, 6),
        (0, "red", 2, 1, 3, 2, 6),
        (1, "blue", 1, 1, 1, 2, 2),
        (1, "sky", 1, 1, 1, 1, 2),
    ]


def test_texts_without_words_leave_no_counts() -> None:
    assert count_grouped_words(pl.Series(["", "7 8", "a"]), np.array([0, 1, 1])).is_empty()
