"""Words of groups of texts, by which the groups are named: no parts of URLs, no numbers, no stop words.

A group whose texts are nothing but stop words or URLs is named by these: a poor name tells more than none.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.stop_words import mark_stop_words
from sbert.index.words.terms import terms_of

__all__ = ["choose_grouped_words", "count_grouped_words"]

ADDRESSES = (
    r"(?i)(?:\b[a-z][a-z0-9+.-]*://|\bwww\.|\bhttps?:)\S*"  # with a scheme, or cut off after it
    r"|\bhttps?…"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # of e-mail
    r"|\b(?:[\w-]+\.)+[a-z]{2,24}/\S*"  # without a scheme, with a path: t.co/abc
    r"|&(?:[a-z]{2,8}|#[0-9]{1,6});"  # entities of HTML, which copied pages hold
)
"""Parts of texts that are no prose."""
BARE_DOMAIN = r"(?i)(\w)\.(?:com|org|edu|gov|co)\b"
"""The end of a domain whose name may be that of a company, which stays: amazon.com."""


def choose_grouped_words(
    texts: pl.Series, groups_N: npt.NDArray[np.int64], rank: Callable[[pl.DataFrame], pl.DataFrame]
) -> dict[int, list[str]]:
    """Return the words of each group, in the order that `rank` gives; groups without words are left out.

    Args:
        texts: N texts.
        groups_N: number of each text's group.
        rank: gets the rows of `count_grouped_words`, and returns some of them, the best word of a group first.
    """
    prose = texts.cast(pl.String).str.replace_all(ADDRESSES, " ").str.replace_all(BARE_DOMAIN, "$1 ")
    words = _without_stop_words(rank(_marked(prose, groups_N)))
    nameless = sorted(set(groups_N.tolist()) - words.keys())
    if nameless:  # their texts are URLs, perhaps
        ranked = rank(_marked(texts, groups_N))
        words |= _without_stop_words(ranked.filter(pl.col("group").is_in(nameless)))
    return words


def _marked(texts: pl.Series, groups_N: npt.NDArray[np.int64]) -> pl.DataFrame:
    return mark_stop_words(count_grouped_words(texts, groups_N))


def _without_stop_words(ranked: pl.DataFrame) -> dict[int, list[str]]:
    """Return the words by group; stop words stay in groups that have no other words."""
    ranked = ranked.filter(~pl.col("is_stop") | pl.col("is_stop").all().over("group"))
    return dict(ranked.group_by("group", maintain_order=True).agg("word").iter_rows())


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
