"""Run the refresh flow, and read what runs left, for several tests."""

from typing import Any

from prefect.client.orchestration import get_client

from flows.refresh import refresh_embeddings
from sbert.refresh.refresh_report import RefreshReport


def refresh(raw: object, table: object, **options: object) -> RefreshReport:
    """Run the flow."""
    return refresh_embeddings(raw_uri=str(raw), table_uri=str(table), **options)  # type: ignore[arg-type]


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
