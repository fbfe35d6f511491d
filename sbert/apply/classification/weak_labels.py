"""Rows of the table that rules speak for and nobody labelled, as further rows to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.classification.rules import Rule, rule_classes, spoken_for
from sbert.errors import ColumnError
from sbert.labels.checks import fold_texts
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Float32, Precision

__all__ = ["WeakLabels", "check_text_column", "find_weak_labels"]


@dataclass(frozen=True)
class WeakLabels:
    """N rows with the class that rules give them."""

    vectors_ND: Float32
    labels: list[str]
    weights_N: npt.NDArray[np.float64]
    """The weight of the surest rule that matches (above 0, at most 1)."""


def check_text_column(table: Table, column: str) -> None:
    """Check that a table keeps the texts that rules are matched with.

    Raises:
        ColumnError: the table keeps no such column.
    """
    if column not in table.kept_schema:
        kept = ", ".join(table.kept_schema) or "none"
        raise ColumnError(
            f"{table.uri}: rules are matched with the column {column!r}, which the table does not keep (kept: {kept}): "
            f"refresh it with --keep-columns {column}, or name the column that holds the text in text_column"
        )


def find_weak_labels(
    table: Table, column: str, rules: Sequence[Rule], labelled: pl.Series, max_rows: int
) -> WeakLabels | None:
    """Return rows that rules of one class only speak for; None when there are none.

    Of more than `max_rows` texts, those with the smallest hashes are taken: a fixed sample.

    Args:
        table: where rows are taken from.
        column: its column that holds the text.
        rules: the rules of a task.
        labelled: texts that a person labelled, which are left out.
        max_rows: how many rows at most.
    """
    classes = rule_classes(rules)
    names = [f"rule_{at}" for at in range(len(classes))]
    num_speaking = pl.sum_horizontal(pl.col(name) > 0 for name in names)
    vectors = vector_names(Precision(table.encoder.precision))
    spoken = (
        table.scan()
        .select("source", "id", "text_hash", pl.col(column).cast(pl.String).alias("text"))
        .with_columns(spoken_for(rules, "text"))
        .filter(num_speaking == 1)
    )
    # A text that a person labelled may be among the smallest hashes, so as many more are read.
    candidates = spoken.sort("text_hash", "source", "id").head(2 * (max_rows + len(labelled))).collect()
    candidates = candidates.unique("text_hash", keep="first", maintain_order=True)
    candidates = candidates.filter(~fold_texts(candidates["text"]).is_in(fold_texts(labelled).unique().implode())).head(
        max_rows
    )
    if candidates.is_empty():
        return None
    rows = (
        table.scan()
        .select("source", "id", *vectors)
        .join(candidates.lazy().drop("text"), on=["source", "id"], how="inner")
        .collect()
        .sort("text_hash")
    )
    weights_NK = rows.select(names).to_numpy()
    return WeakLabels(
        vectors_ND=vector_matrix(rows.to_arrow(), table.encoder.dim, Precision(table.encoder.precision)),
        labels=[classes[at] for at in weights_NK.argmax(axis=1)],
        weights_N=weights_NK.max(axis=1),
    )
