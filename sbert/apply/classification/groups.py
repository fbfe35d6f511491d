"""Groups of rows by whose values errors and abstentions are reported: their columns, and abstentions over the whole table.

A group column is one of the labels. Where the labels lack it, it is one of the table: a kept column, or ``source``.
"""

from collections.abc import Mapping, Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.job import ClassificationJob
from sbert.apply.classification.quality import Share, share
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS
from sbert.derived.paired_rows import paired_rows
from sbert.errors import ColumnError
from sbert.source.formats.base import there_are
from sbert.source.values import as_text
from sbert.table.delta import Table

__all__ = ["ColumnAbstentions", "GroupAbstentions", "abstentions_by_group", "no_group_column", "table_group_columns"]

SOURCE = "source"
"""Column of every table: the object that a row was read from."""
MAX_GROUPS = 200
"""Groups of a column that a report holds: the largest."""
MAX_PARTS = 64
"""Counts of blocks that are kept before they are added up."""


class GroupAbstentions(BaseModel):
    """How often a head abstains on the rows of one value of a column of the table."""

    model_config = ConfigDict(frozen=True)

    value: str = Field(description="Empty for rows without a value.")
    num_rows: int
    abstained: Share


class ColumnAbstentions(BaseModel):
    """How often a head abstains on all rows of the table, by the values of a column."""

    model_config = ConfigDict(frozen=True)

    column: str
    num_groups: int = Field(description="Values of the column.")
    groups: list[GroupAbstentions] = Field(description=f"The largest first, {MAX_GROUPS} at most.")


def table_group_columns(table: Table, names: Sequence[str]) -> list[str]:
    """Return the names that are columns of the table by which rows can be grouped."""
    return [name for name in names if name in _usable(table)]


def _usable(table: Table) -> list[str]:
    return [SOURCE, *(name for name, dtype in table.kept_schema.items() if not dtype.is_nested())]


def no_group_column(name: str, labels_uri: str, label_columns: Sequence[str], table: Table) -> ColumnError:
    """Return the error for a group column that neither the labels nor the table have."""
    kept = table.kept_schema
    if name in kept:
        return ColumnError(
            f"{table.uri}: the column {name!r} (group_columns) holds {kept[name]}, not one value a row: name another "
            f"column, or add {name!r} to the labels of {labels_uri}"
        )
    return ColumnError(
        f"no column {name!r} (group_columns): of the labels {labels_uri} {there_are(label_columns, name)}; of the table "
        f"{table.uri} {there_are(_usable(table), name)}. Name one of these, add {name!r} to the labels, or keep it in the "
        f"table with `sbert refresh --keep-columns {','.join([*kept, name])}`"
    )


def abstentions_by_group(
    output: DerivedTable, table: Table, job: ClassificationJob, columns: Sequence[str]
) -> dict[str, list[ColumnAbstentions]]:
    """Return for each task how often its head abstains, by the groups of each column.

    Rows of output and table are read side by side, in blocks; memory holds the counts of the groups.

    Args:
        output: the classes of the rows.
        table: the version of the embeddings table that they are of.
        job: the job that made them.
        columns: group columns of the table (`table_group_columns`).

    Raises:
        TableError: the rows of output and table do not belong together.
    """
    flags = {head.task: f"{job.prefix(head)}abstained" for head in job.heads}
    sums = [pl.len().alias("num_rows"), *(pl.col(name).sum().alias(f"of {task}") for task, name in flags.items())]
    kept = [name for name in columns if name != SOURCE]
    counts = _kept_counts(output, table, flags, kept)
    if SOURCE in columns:
        by_source = output.scan().group_by(pl.col(SOURCE).cast(pl.String).alias("value")).agg(sums)
        counts[SOURCE] = by_source.collect(engine="streaming")
    return {task: [_abstentions(counts[name], name, task) for name in columns] for task in flags}


def _kept_counts(
    output: DerivedTable, table: Table, flags: Mapping[str, str], columns: Sequence[str]
) -> dict[str, pl.DataFrame]:
    """Return rows and abstentions of each task by value, for each kept column."""
    parts: dict[str, list[pl.DataFrame]] = {column: [] for column in columns}
    if not columns:
        return {}
    sums = [f"of {task}" for task in flags]
    names = [*KEY_COLUMNS, *sums, *(f"in {column}" for column in columns)]  # a kept column may be called "abstained"
    for block in paired_rows(output, table, list(flags.values()), columns):
        frame = pl.from_arrow(block.rename_columns(names))
        assert isinstance(frame, pl.DataFrame)
        for column, counted in parts.items():
            value = as_text(frame[f"in {column}"]).fill_null("").alias("value")
            rows = frame.select(value, pl.lit(1, pl.Int64).alias("num_rows"), pl.col(*sums).cast(pl.Int64))
            counted.append(_added_up([rows]))
            if len(counted) > MAX_PARTS:
                counted[:] = [_added_up(counted)]
    empty = pl.DataFrame(schema={"value": pl.String} | dict.fromkeys(["num_rows", *sums], pl.Int64))
    return {column: _added_up([empty, *counted]) for column, counted in parts.items()}


def _added_up(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("value").agg(pl.exclude("value").sum())


def _abstentions(counts: pl.DataFrame, column: str, task: str) -> ColumnAbstentions:
    largest = counts.sort(["num_rows", "value"], descending=[True, False]).head(MAX_GROUPS)
    groups = []
    for value, num_rows, num_abstained in largest.select("value", "num_rows", f"of {task}").iter_rows():
        abstained = share(num_abstained, num_rows)
        assert abstained is not None
        groups.append(GroupAbstentions(value=value, num_rows=num_rows, abstained=abstained))
    return ColumnAbstentions(column=column, num_groups=counts.height, groups=groups)
