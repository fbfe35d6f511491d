"""The rows of a table that hold given texts, such as labelled texts: which texts there are, and what their rows say.

A text is found by the hash of its cleaned form, as `sbert.apply.text_vectors` finds its vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sbert.apply.text_vectors import table_texts
from sbert.rows.cleaning import hash_texts
from sbert.source.values import as_text
from sbert.table.delta import Table

__all__ = ["FoundRows", "rows_of_texts"]


@dataclass(frozen=True)
class FoundRows:
    """What a table says about N texts."""

    is_found: pl.Series
    """Whether the table has the text; N truth values."""
    values: dict[str, pl.Series]
    """N values of each column as text: null for a text that the table lacks, empty where the row has no value."""


def rows_of_texts(table: Table, texts: Sequence[str], columns: Sequence[str] = ()) -> FoundRows:
    """Look texts up in a table, in one pass over its hashes and the columns.

    Where several rows have a text, the first by source and id is taken.

    Args:
        table: the version that is searched.
        texts: N texts, as people wrote them.
        columns: ``source``, or kept columns that hold one value a row.
    """
    hashes = hash_texts(table_texts(table, texts)).alias("text_hash")
    names = {f"value {at}": column for at, column in enumerate(columns)}
    matches = (
        table.scan()
        .select("text_hash", pl.col("source", "id").cast(pl.String), **{name: pl.col(of) for name, of in names.items()})
        .join(hashes.unique().to_frame().lazy(), on="text_hash", how="semi")
        .group_by("text_hash")
        .agg(pl.col(*names).min_by(pl.struct("source", "id")) if names else [])
        .collect(engine="streaming")
        .with_columns(found=True)
    )
    rows = hashes.to_frame().join(matches, on="text_hash", how="left", maintain_order="left")
    is_found = rows["found"].fill_null(value=False).alias("is_found")
    filled = [
        pl.select(pl.when(is_found).then(as_text(rows[name]).fill_null("")).alias(column)).to_series()
        for name, column in names.items()
    ]
    return FoundRows(is_found, {values.name: values for values in filled})
