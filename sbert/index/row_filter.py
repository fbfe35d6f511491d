"""Filters such as ``lang = 'en' and price < 10``: SQL over the columns of a table, evaluated shard by shard.

The expression is parsed by Polars. Only comparisons of columns and literals are accepted; anything else that SQL knows
(subqueries, aggregates, random numbers) is refused by name. A shard is scanned by Polars, which skips row groups whose
bounds in the footer exclude every row.
"""

import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from sbert.errors import SettingsError
from sbert.index.top_k import Int64
from sbert.storage.errors import translate_errors
from sbert.storage.files import delta_storage_options
from sbert.table.delta import Table

__all__ = ["RowFilter"]

OWN_COLUMNS = ("id", "source", "num_tokens", "truncated")
"""Columns of every table that a filter may name, beside the kept columns."""
NODES = frozenset({"BinaryExpr", "Column", "Literal", "Cast"})
FUNCTIONS: dict[str, frozenset[str] | None] = {
    "Boolean": frozenset({"Not", "IsNull", "IsNotNull", "IsNan", "IsNotNan", "IsIn", "IsBetween"}),
    "StringExpr": frozenset({"StartsWith", "EndsWith", "Contains", "Uppercase", "Lowercase", "LenChars"}),
    "Sql": None,
    "Abs": None,
    "Negate": None,
}
"""Functions of Polars that SQL operators and predicates become; None where every variant is one."""
NAMES = {"Agg": "an aggregate", "SubPlan": "a subquery", "Ternary": "a case or an aggregate"}


class RowFilter:
    """Says which rows of a table satisfy an expression. A row for which it is null does not."""

    def __init__(self, where: str, table: Table) -> None:
        """Parse and check an expression.

        Raises:
            SettingsError: it is no expression, names a column that the table lacks, compares values that cannot be
                compared, is not true or false, or holds more than columns, literals, operators and simple functions.
        """
        self.where = where
        self._table = table
        schema = pl.Schema(_schema(table))
        try:
            self._expression = pl.sql_expr(where)
            tree = json.loads(self._expression.meta.serialize(format="json"))
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise SettingsError(f"where: {where!r} is no expression of SQL: {_first_line(error)}") from error
        _check(where, tree)
        self._columns = sorted(set(self._expression.meta.root_names()))
        for name in self._columns:
            if name not in schema:
                raise SettingsError(
                    f"where: the table has no column {name!r} to filter by, it has {', '.join(schema)}: keep the column "
                    "with `sbert refresh --keep-columns`, and write texts in single quotes"
                )
        # UTC is what the table holds; SQL has no literal with a time zone.
        self._naive = [
            name for name in self._columns if isinstance(kind := schema[name], pl.Datetime) and kind.time_zone
        ]
        try:
            kind = self._evaluated(pl.DataFrame(schema=schema)).dtype
        except pl.exceptions.PolarsError as error:
            types = ", ".join(f"{name} {schema[name]}" for name in self._columns)
            raise SettingsError(
                f"where: {where!r} cannot be evaluated ({_first_line(error)}); the columns are {types or 'none'}; dates are "
                "written as date '2026-11-29', times as timestamp '2026-11-29 12:00:00'"
            ) from error
        if kind != pl.Boolean:
            raise SettingsError(f"where: {where!r} is of type {kind}, expected true or false: add a comparison")

    def rows_of_shard(self, name: str) -> Int64:
        """Return the numbers of a shard's rows that satisfy the filter, counted from 0, ascending.

        Raises:
            StorageError: storage refuses.
        """
        uri = self._table.shard_uri(name)
        options = delta_storage_options(self._table.uri) or None
        with translate_errors(uri):
            scan = pl.scan_parquet(uri, glob=False, row_index_name=" row", storage_options=options)
            rows = self._matching(scan).select(" row").collect(engine="streaming")
        return rows.to_series().cast(pl.Int64).to_numpy()

    def mask(self, rows: pl.DataFrame) -> pl.Series:
        """Return for each of some rows whether it satisfies the filter."""
        return self._evaluated(rows).fill_null(value=False)

    @property
    def columns(self) -> list[str]:
        """The columns that the expression names."""
        return self._columns

    def _plain(self) -> list[pl.Expr]:
        return [pl.col(name).dt.replace_time_zone(None) for name in self._naive]

    def _evaluated(self, rows: pl.DataFrame) -> pl.Series:
        return rows.with_columns(self._plain()).select(pl.first(), self._expression.alias(" where")).to_series(1)

    def _matching(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return (rows.with_columns(self._plain()) if self._naive else rows).filter(self._expression)


def _schema(table: Table) -> dict[str, pl.DataType]:
    own = {"id": pl.String(), "source": pl.String(), "num_tokens": pl.Int32(), "truncated": pl.Boolean()}
    return {**{name: own[name] for name in OWN_COLUMNS}, **table.kept_schema}


def _check(where: str, tree: Any) -> None:
    """Refuse an expression that is neither a column, a literal nor an operator.

    Raises:
        SettingsError: naming it.
    """
    for name in _foreign(tree):
        raise SettingsError(
            f"where: {where!r} holds {name}, and a filter may hold only columns, literals, comparisons, and, or, not, "
            "in, between, like, is null and arithmetic"
        )


def _foreign(tree: Any) -> Iterator[str]:
    """Yield the names of the nodes of an expression that are not accepted."""
    if not isinstance(tree, dict):
        yield str(tree)
        return
    for kind, value in tree.items():
        if kind == "Function":
            function = value["function"]
            name, variant = next(iter(function.items())) if isinstance(function, dict) else (function, None)
            variant = next(iter(variant)) if isinstance(variant, dict) else variant
            accepted = FUNCTIONS.get(name, frozenset())
            if accepted is not None and variant not in accepted:
                yield f"the function {variant or name}"
            for part in value["input"]:
                yield from _foreign(part)
        elif kind not in NODES:
            yield NAMES.get(kind, str(kind))
        elif kind == "BinaryExpr":
            yield from _foreign(value["left"])
            yield from _foreign(value["right"])
        elif kind == "Cast":
            yield from _foreign(value["expr"])


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())
