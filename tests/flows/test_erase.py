"""The flow of an erasure leaves the receipt as an artifact, and fails when rows are left."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.erase import erase_rows
from sbert.errors import NotErasedError
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version


def artifacts(key: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        response = client.request("POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": [key]}}})
    return [item["data"] for item in response.json()]


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_erases_leaves_the_receipt_and_fails_when_rows_are_left(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    make_version(table, {"s3://raw/a.jsonl": {f"a-{at}": at for at in range(5)}})
    (tmp_path / "ids.csv").write_text("id\na-3\n")
    receipt = erase_rows(table, str(tmp_path / "ids.csv"))
    assert outcome_of_newest_run() == "Erased 1 row, asked for 1 key"
    assert receipt.num_rows_erased == 1
    assert any(receipt.erasure in text for text in artifacts("erasure-receipt"))
    (tmp_path / "ids.csv").write_text("id\na-4\n")
    Path(table, "notes.txt").write_text("a-4")
    with pytest.raises(NotErasedError, match=r"notes\.txt"):
        erase_rows(table, str(tmp_path / "ids.csv"))


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_fails_when_ids_are_found_nowhere_and_tells_only_their_number(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    make_version(table, {"s3://raw/a.jsonl": {f"a-{at}": at for at in range(5)}})
    (tmp_path / "ids.csv").write_text("id\na-3\nnosuch\n")
    with pytest.raises(NotErasedError, match="1 key found nowhere") as raised:
        erase_rows(table, str(tmp_path / "ids.csv"), dry_run=True)
    assert "nosuch" not in str(raised.value)
    receipt = erase_rows(table, str(tmp_path / "ids.csv"), allow_missing=True)
    assert receipt.num_not_found == 1
    (text,) = [text for text in artifacts("erasure-receipt") if receipt.erasure in text]
    assert "found nowhere: 1" in text
    assert "nosuch" not in text
