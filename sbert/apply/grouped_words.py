"""Counts of the words of groups of texts, from which the words that name a group are chosen."""

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.index.words.terms import terms_of

__all__ = ["count_grouped_words"]


def count_grouped_words(texts: pl.Series, groups_N: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Count the words of each group; single characters, numbers and punctuation do not count.

    Args:
        texts: N texts.
        groups_N: number of each text's group.

    Returns:
        A row for each word of each group: ``group``, ``word``, ``count`` (how often it occurs in the group),
        ``num_texts`` (texts of the group that hold it), ``group_size`` (texts of the group), ``count_everywhere`` (how
        often it occurs in all groups), ``group_words`` (words of the group).
    """
    words = (
        pl.DataFrame({"group": groups_N, "word": terms_of(texts, fold_accents=False)})
        .with_row_index("text")
        .explode("word", empty_as_null=True)
        .drop_nulls("word")
        .filter(pl.col("word").str.len_chars() >= 2, ~pl.col("word").str.contains(r"^[\p{N}\p{P}]+$"))
    )
    sizes = pl.DataFrame({"group": groups_N}).group_by("group").agg(group_size=pl.len())
    return (
        words.group_by("group", "word")
        .agg(count=pl.len(), num_texts=pl.col("text").n_unique())
        .join(sizes, on="group")
        .with_columns(
            count_everywhere=pl.col("count").sum().over("word"), group_words=pl.col("count").sum().over("group")
        )
    )
