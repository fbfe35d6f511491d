"""Words that say nothing about a subject: those of a list for English, those in many texts for other languages.

The list is scikit-learn's, without its words that do name a subject, such as "bill" and "interest" (Nothman, Qin and
Yurchak 2018, "Stop Word Lists in Free Open-source Software Packages"), and with contractions and forms that it lacks.

A group of texts in which the list covers few words is in another language. Its stop words are the words of the highest
document frequency that most of such groups hold: function words are in all groups, words of a subject are in some.
"""

from functools import cache

import polars as pl

__all__ = ["english_stop_words", "mark_stop_words"]

# fmt: off
NAME_SUBJECTS = frozenset({
    "amount", "bill", "bottom", "call", "cry", "describe", "detail", "empty", "fill", "fire", "front", "interest", "mill",
    "mine", "move", "name", "serious", "show", "side", "sincere", "system", "thick", "thin", "top",
})
"""Words of scikit-learn's list that name subjects."""
ADDED = frozenset({
    "did", "does", "doing", "having", "just", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt",
    "havent", "hes", "im", "isnt", "ive", "shes", "shouldnt", "thats", "theres", "theyll", "theyre", "theyve", "wasnt",
    "werent", "weve", "whats", "wheres", "whos", "wont", "wouldnt", "youd", "youll", "youre", "youve",
})
"""Forms that the list lacks; contractions are written as terms are, without apostrophe."""
# fmt: on
LEAST_ENGLISH = 0.2
"""Share of the words of a group that the list covers, at least, if the group is in English. English prose has 0.4 to 0.5."""
LEAST_FREQUENCY = 0.015
"""Share of all texts of other languages that hold a stop word, at least (0 to 1)."""
LEAST_SPREAD = 0.005
"""Share of the texts of over half of these groups that hold it, at least (0 to 1)."""
MAX_FREQUENT = 100
"""Stop words of other languages, at most: long texts hold many words of a subject often."""


@cache
def english_stop_words() -> frozenset[str]:
    """Return the stop words of English, in lower case and without apostrophes."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) - NAME_SUBJECTS | ADDED


def mark_stop_words(counts: pl.DataFrame) -> pl.DataFrame:
    """Return counts of words with the column ``is_stop``.

    Args:
        counts: a row for each word of a group with ``group``, ``word``, ``count`` (occurrences), ``num_texts`` (texts
            of the group that hold the word) and ``group_size`` (texts of the group).
    """
    counts = counts.with_columns(is_stop=pl.col("word").is_in(list(english_stop_words())))
    covered = pl.col("count").filter("is_stop").sum().over("group") / pl.col("count").sum().over("group")
    others = counts.with_columns(covered=covered).filter(pl.col("covered") < LEAST_ENGLISH)
    num_groups = others["group"].n_unique()
    if num_groups < 2:
        return counts  # the words of a single group are not set apart from its subject by their frequency
    num_texts = others.unique("group")["group_size"].sum()
    frequent = (
        others.group_by("word")
        .agg(
            frequency=pl.col("num_texts").sum() / num_texts,
            num_groups=(pl.col("num_texts") >= LEAST_SPREAD * pl.col("group_size")).sum(),
        )
        .filter(pl.col("frequency") >= LEAST_FREQUENCY, pl.col("num_groups") > num_groups / 2)
        .sort(["frequency", "word"], descending=[True, False])
        .head(MAX_FREQUENT)
    )
    is_other = pl.col("group").is_in(others["group"].unique().implode())
    return counts.with_columns(
        is_stop=pl.col("is_stop") | (is_other & pl.col("word").is_in(frequent["word"].implode()))
    )
