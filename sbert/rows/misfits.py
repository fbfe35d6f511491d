"""Values that do not fit the type of their kept column: the row stays, the value is null, the original is kept here."""

import polars as pl

__all__ = ["MISFIT_SCHEMA", "empty_misfits"]

MISFIT_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "row": pl.Int64(),
        "id": pl.String(),
        "column": pl.String(),
        "type": pl.String(),
        "original": pl.String(),
    }
)
"""``row`` counts from 1 within the object; ``type`` is the column's type in the table, ``original`` the value as text."""
NO_MISFITS = pl.DataFrame(schema=MISFIT_SCHEMA)


def empty_misfits() -> pl.DataFrame:
    """Return a frame of no misfits."""
    return NO_MISFITS.clone()  # made once: every block begins with one
