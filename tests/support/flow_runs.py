"""Run the refresh flow, and read what it left, for several tests."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.client.orchestration import get_client

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
    splits = completed_splits(table_uri, [shard.fingerprint for shard in Table.open(table_uri).shards()])
    return read_rejects(table_uri, list(splits.values()))


def newest_run() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the flow run that began last, and its artifacts by key, or by type where they have no key."""
    with get_client(sync_client=True) as client:
        asked: dict[str, Any] = {"sort": "START_TIME_DESC", "limit": 1}
        [run] = client.request("POST", "/flow_runs/filter", json=asked).json()
        asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        artifacts = client.request("POST", "/artifacts/filter", json=asked).json()
    return run, {item["key"] or item["type"]: item for item in artifacts}


def outcome_of_newest_run() -> str:
    """Return the state message of the flow run that began last."""
    return str(newest_run()[0]["state"]["message"])
