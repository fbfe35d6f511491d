"""Refresh by the library with the parameters of the refresh flow, and read what it left.

A run of the flow takes ten times as long as the same refresh by the library, most of it for Prefect. What the library alone decides
is tested without it.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import IncompleteError
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import refresh as refresh_by_library
from sbert.refresh.steps import RefreshSteps
from sbert.table.delta import Table
from sbert.table.split_records import completed_splits, read_rejects
from tests.support.refreshing import NO_WAIT
from tests.support.tables import read

__all__ = ["ids_of", "incomplete", "refresh", "rejects_of"]


def refresh(
    raw: object,
    table: object,
    *,
    model: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    keep_columns: Sequence[str] | None = None,
    settings: RefreshSettings | None = None,
    allow_drop: bool = False,
    dry_run: bool = False,
) -> RefreshReport:
    """Refresh a table.

    Raises:
        IncompleteError: objects could not be read; everything else was published.
    """
    columns = {"text_column": text_column, "id_column": id_column, "keep_columns": keep_columns}
    asked = (settings or RefreshSettings()).with_source(**columns).allowing_drops(allow_drop)
    job = RefreshJob(raw_uri=str(raw), table_uri=str(table), model=model, settings=asked)
    return refresh_by_library(job, steps=RefreshSteps(retry_seconds=NO_WAIT), dry_run=dry_run)


def incomplete(raw: Path, table: Path, **options: object) -> RefreshReport:
    """Refresh a source with unreadable objects and return the report of the rest."""
    with pytest.raises(IncompleteError) as caught:
        refresh(raw, table, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value.report, RefreshReport)
    return caught.value.report


def ids_of(table: Path) -> set[str]:
    """Return the ids of all rows."""
    return set(read(table)["id"])


def rejects_of(table_uri: str) -> pl.DataFrame:
    """Return the rejected rows of the newest version."""
    splits = completed_splits(table_uri, [shard.fingerprint for shard in Table.open(table_uri).shards()])
    return read_rejects(table_uri, list(splits.values()))
