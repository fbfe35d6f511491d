"""Kept columns that a person names: the setting, and a check before any work that the table has them."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from sbert.errors import ColumnError
from sbert.table.delta import Table

__all__ = ["TextColumn", "check_kept"]

TextColumn = Annotated[
    str | None,
    Field(
        min_length=1,
        title="Text column",
        description="Kept column with the text; empty for the column that was encoded.",
    ),
]


def check_kept(table: Table, names: Iterable[str | None]) -> None:
    """Check that a table keeps columns; None stands for no column.

    Raises:
        ColumnError: one of them is not kept.
    """
    kept = list(table.kept_schema)
    for name in names:
        if name is not None and name not in kept:
            choice = "name one of these, or " if kept else ""
            raise ColumnError(
                f"{table.uri}: no kept column {name!r} (kept: {', '.join(kept) or 'none'}): {choice}keep it "
                f"with `sbert refresh --keep-columns {','.join([*kept, name])}`"
            )
