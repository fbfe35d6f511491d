"""Cut texts into terms, for languages with and without spaces between words.

A term is a run of letters and digits. Scripts that put no spaces between words (Chinese, Japanese, Thai, …) give overlapping
pairs of characters: two texts that share a word share its pairs. A run such as ``PR-1042`` or ``1.2.3``, which holds a
digit, is a term as a whole and in its parts, so that codes are found in either form. Polars does the work, so the cost is
that of regular expressions in Rust.
"""

import polars as pl

__all__ = ["TERMS_VERSION", "terms_of"]

TERMS_VERSION = 1
"""Part of the fingerprint of everything that holds terms: other rules make other terms."""

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no spaces between words, as the inside of a character class."""
LETTER = r"[\p{L}\p{M}\p{N}&&[^" + UNSPACED + "]]"
WORD = rf"{LETTER}+"
COMPOUND = rf"{LETTER}+(?:[-._/:]{LETTER}+)+"
RUN = rf"[{UNSPACED}]+|{COMPOUND}|{WORD}"
FOLDED_MARKS = r"[\u0300-\u036F]"
"""Accents of Latin, Greek and Cyrillic letters. Marks of other scripts are vowels and stay."""
APOSTROPHES = r"(\p{L})['\u2019](\p{L})"


def terms_of(texts: pl.Series, *, fold_accents: bool = True) -> pl.Series:
    """Return the terms of each text, in lower case and in their order, as a column of lists.

    Args:
        texts: the texts; null counts as an empty text.
        fold_accents: whether ``Zürich`` and ``Zurich`` are one term.
    """
    value = pl.col("text").fill_null("").str.normalize("NFKC")
    if fold_accents:
        value = value.str.normalize("NFKD").str.replace_all(FOLDED_MARKS, "").str.normalize("NFKC")
    value = value.str.to_lowercase().str.replace_all(APOSTROPHES, "$1$2")
    runs = texts.alias("text").cast(pl.String).to_frame().select(value.str.extract_all(RUN).alias("run"))
    flat = runs.with_row_index("text").explode("run", empty_as_null=True).with_row_index("at").drop_nulls("run")
    is_unspaced = pl.col("run").str.contains(rf"^[{UNSPACED}]")
    is_compound = pl.col("run").str.contains(r"[-._/:]")
    plain = flat.filter(~is_unspaced & ~is_compound).select("text", "at", term="run")
    parts = _parts(flat.filter(is_compound & ~is_unspaced))
    pairs = _pairs(flat.filter(is_unspaced))
    terms = pl.concat([plain, parts, pairs]).sort("at", maintain_order=True)
    lists = terms.group_by("text", maintain_order=True).agg("term")
    every = pl.DataFrame({"text": range(len(texts))}, schema={"text": pl.UInt32})
    return (
        every.join(lists, on="text", how="left", maintain_order="left")["term"]
        .fill_null(pl.Series([[]], dtype=pl.List(pl.String)))
        .alias("terms")
    )


def _parts(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the words of compounds, and as a whole each compound that holds a digit."""
    words = runs.select("text", "at", term=pl.col("run").str.extract_all(WORD)).explode("term")
    whole = runs.filter(pl.col("run").str.contains(r"\p{N}")).select("text", "at", term="run")
    return pl.concat([words, whole])


def _pairs(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the overlapping pairs of characters of runs; a run of one character is a term."""
    characters = runs.select("text", "at", character=pl.col("run").str.split("")).explode("character")
    after = pl.col("character").shift(-1).over("at")
    is_alone = pl.len().over("at") == 1
    pairs = characters.with_columns(after=after, is_alone=is_alone)
    return pairs.filter(pl.col("after").is_not_null() | pl.col("is_alone")).select(
        "text", "at", term=pl.concat_str("character", pl.col("after").fill_null(""))
    )
