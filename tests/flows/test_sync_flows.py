"""The flows that follow a table with a vector store."""

from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client

from flows.reconcile_destination import reconcile_destination
from flows.sync_destination import sync_destination
from sbert.errors import DestinationError, NotEqualError
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.qdrant import QdrantDestination, point_id
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"s3://raw/a.jsonl": {str(number): number for number in range(30)}})
    return folder


@pytest.fixture
def location(tmp_path: Path) -> str:
    return f"qdrant:{tmp_path / 'qdrant'}#docs"


def artifacts(key: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        response = client.request("POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": [key]}}})
    return [item["data"] for item in response.json()]


def test_a_sync_leaves_a_report_at_its_run(table: str, location: str) -> None:
    report = sync_destination(table_uri=table, destination=location)
    assert outcome_of_newest_run() == "Version 0: 30 rows, 30 upserts, 0 deletes"
    assert report.num_upserts == 30
    (text,) = [text for text in artifacts("sync-report") if location in text]
    assert "| rows written | 30 |" in text
    assert "| lag behind the newest version | none |" in text
    assert "| coverage | 100.0% |" in text


def test_a_reconcile_that_finds_differences_fails_and_its_artifact_names_the_rows(table: str, location: str) -> None:
    sync_destination(table_uri=table, destination=location)
    with open_destination(location) as destination:
        assert isinstance(destination, QdrantDestination)
        destination._open.delete(str(destination.visible()), [point_id("s3://raw/a.jsonl", "7")])
    with pytest.raises(NotEqualError, match="1 missing row, 0 stale and 0 extra"):
        reconcile_destination(table_uri=table, destination=location)
    assert any("First missing rows" in text and "| 7 |" in text for text in artifacts("reconcile-report"))
    assert reconcile_destination(table_uri=table, destination=location, repair=True).is_repaired
    assert outcome_of_newest_run() == "Mended, version 0: 1 missing row, 0 stale, 0 extra"


def test_credentials_come_from_a_secret_block_and_are_no_parameter_of_the_run(
    table: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Secret(value="hunter2").save("vector-store", overwrite=True)
    secrets: list[str | None] = []
    real = QdrantDestination.__init__

    def init(self: QdrantDestination, where: str, name: str, secret: str | None = None) -> None:
        secrets.append(secret)
        real(self, where, name, secret)

    monkeypatch.setattr(QdrantDestination, "__init__", init)
    sync_destination(table_uri=table, destination=location, credentials="vector-store")
    assert secrets == ["hunter2"]
    with pytest.raises(DestinationError, match="Secret block 'absent' cannot be loaded"):
        sync_destination(table_uri=table, destination=location, credentials="absent")
