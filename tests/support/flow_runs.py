"""Run the refresh flow, and read what it left, for several tests."""

from pathlib import Path

import polars as pl
import pytest

from flows.refresh import refresh_embeddings
from sbert.errors import IncompleteError
from sbert.refresh.refresh_report import RefreshReport
from sbert.table.delta import Table
from sbert.table.split_records import completed_splits, read_rejects
from tests.support.tables import read


def refresh(raw: object, table: object, **options: object) -> RefreshReport:
    """Run the flow."""
    return refresh_embeddings(raw_uri=str(raw), table_uri=str(table), **options)  # type: ignore[arg-type]


def incomplete(raw: Path, table: Path, **options: object) -> RefreshReport:
    """Refresh a source with unreadable objects and return the report of the rest."""
    with pytest.raises(IncompleteError) as caught:
        refresh(raw, table, **options)
    assert isinstance(caught.value.report, RefreshReport)
    return caught.value.report


def ids_of(table: Path) -> set[str]:
    """Return the ids of all rows."""
    return set(read(table)["id"])


def rejects_of(table_uri: str) -> pl.DataFrame:
    """Return the rejected rows of the newest version."""
    found = completed_splits(table_uri, [shard.fingerprint for shard in Table.open(table_uri).shards()])
    return read_rejects(table_uri, list(found.values()))
