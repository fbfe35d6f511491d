"""Predictions of a classifier for the rows of a table, read from the output of `sbert classify`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, SettingsError, TableError
from sbert.suggest.criteria import Values
from sbert.table.delta import Table

__all__ = ["CLASSIFICATION_JOB", "Predictions", "gives_lists", "load_predictions", "prediction_columns"]

CLASSIFICATION_JOB = "classification"
"""Name of the job whose output is read. The job is in a package above, which this one does not import."""
KEYS = ("source", "id", "text_hash")


@dataclass(frozen=True)
class Predictions:
    """Predictions of N texts."""

    doubt_N: Values
    """One minus the probability of the likeliest class, or of the whole list. A row without a prediction has the
    median of the others."""
    abstained_N: npt.NDArray[np.bool_]
    """Whether the classifier abstains on each row."""
    is_multi_label: bool = False
    """True if the classifier gives lists of classes. The doubt is then that of the whole list."""


def prediction_columns(derived: DerivedTable, table: Table, task: str) -> tuple[str, str]:
    """Return the names of the columns that hold probability and abstention.

    Args:
        derived: the output of `sbert classify`.
        table: the table that texts are chosen from.
        task: the task, for an output of several; empty for an output of one.

    Raises:
        TableError: the output is of another job, another table or another encoder.
        ColumnError: it lacks the columns of the task.
    """
    info = derived.info
    if info.job != CLASSIFICATION_JOB:
        raise TableError(
            f"{derived.uri}: this is the output of the job {info.job}, predictions come from the job "
            f"{CLASSIFICATION_JOB}: name the output of `sbert classify`"
        )
    if info.table_id != table.table_id:
        raise TableError(
            f"{derived.uri}: its rows are those of {info.table_uri} (id {info.table_id}), but {table.uri} has id "
            f"{table.table_id}: name the output of `sbert classify` for this table"
        )
    if info.encoder_fingerprint != table.encoder.fingerprint:
        raise TableError(
            f"{derived.uri}: the predictions are of vectors of the encoder {info.encoder_fingerprint[:12]}, {table.uri} has "
            f"{table.encoder.fingerprint[:12]}: run `sbert classify` again"
        )
    prefix = f"{task}_" if task else ""
    wanted = (f"{prefix}probability", f"{prefix}abstained")
    lacking = [name for name in wanted if name not in derived.schema.names]
    if lacking:
        tasks = [name.removesuffix("_probability") for name in derived.schema.names if name.endswith("_probability")]
        remedy = f"set prediction_task to one of {', '.join(tasks)}" if tasks else "leave prediction_task empty"
        raise ColumnError(
            f"{derived.uri}: there is no column {', '.join(lacking)} (columns: {', '.join(derived.schema.names)}): {remedy}"
        )
    return wanted


def load_predictions(derived: DerivedTable, table: Table, pool: pl.DataFrame, task: str = "") -> Predictions:
    """Read the predictions of texts; a text that changed since it was classified has none.

    Args:
        derived: the output of `sbert classify`.
        table: the table that the texts are from.
        pool: N rows with the columns ``source``, ``id`` and ``text_hash``.
        task: as for `prediction_columns`.

    Raises:
        TableError, ColumnError: as `prediction_columns`.
        SettingsError: no text has a prediction.
    """
    probability, abstained = prediction_columns(derived, table, task)
    keys = pool.select(KEYS).with_row_index("place")
    predicted = (
        derived.scan()
        .select(*KEYS, pl.col(probability).alias("probability"), pl.col(abstained).alias("abstained"))
        .join(keys.lazy(), on=KEYS, how="inner")
        .select("place", "probability", "abstained")
        .collect()
        .drop_nulls()
    )
    if predicted.is_empty():
        raise SettingsError(
            f"{derived.uri}: none of {pool.height:,} texts to choose from has a prediction: run `sbert classify` again"
        )
    places = predicted["place"].to_numpy()
    doubt_N = np.full(pool.height, np.nan)
    doubt_N[places] = 1.0 - predicted["probability"].cast(pl.Float64).to_numpy()
    abstained_N = np.zeros(pool.height, bool)
    abstained_N[places] = predicted["abstained"].to_numpy()
    doubt_N = np.where(np.isnan(doubt_N), np.nanmedian(doubt_N), doubt_N)
    return Predictions(doubt_N, abstained_N, gives_lists(derived, task))


def gives_lists(derived: DerivedTable, task: str = "") -> bool:
    """Return whether the rows of a task can have several classes."""
    return f"{task}_probabilities" in derived.schema.names if task else "probabilities" in derived.schema.names
