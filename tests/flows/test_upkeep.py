"""The weekly flow does its three steps and fails when the table is not sound."""

from pathlib import Path

import pytest

from flows.upkeep import upkeep_table
from sbert.errors import VerificationError
from sbert.table.delta import Table
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.tables import objects_apart, update, write_objects
from tests.support.tiny_models import save_tiny


@pytest.mark.usefixtures("prefect_server")
def test_upkeep_compacts_vacuums_and_verifies_unless_told_otherwise(tmp_path: Path) -> None:
    model, table = save_tiny(tmp_path / "model"), str(tmp_path / "table")
    write_objects(tmp_path / "raw", 3, 10)
    update(tmp_path / "raw", table, model=model, settings=objects_apart())
    report = upkeep_table(table, retention_hours=0)
    assert (
        outcome_of_newest_run()
        == "compact: 3 shards became 1, version 1; vacuum: 3 files, 0.0 MiB removed; verify: 30 rows: nothing wrong"
    )
    assert report.compaction is not None
    assert report.vacuum is not None
    assert report.verification is not None
    assert report.compaction.num_shards == 1
    assert report.vacuum.num_shards == 3
    assert report.verification.num_rows == 30
    assert report.vacuum.applied
    assert report.verification.findings == []
    (shard,) = Table.open(table).shards()
    (tmp_path / "table" / shard.name).write_bytes(b"torn")
    only = upkeep_table(table, compact=False, vacuum=False, verify=False)
    assert only.compaction is None
    assert only.vacuum is None
    assert only.verification is None
    with pytest.raises(VerificationError, match=r"2 findings: part-compacted.*cannot be read to its end"):
        upkeep_table(table, compact=False, vacuum=False)


def test_every_parameter_has_title_description_and_default() -> None:
    schema = upkeep_table.parameters.model_dump()
    assert schema["required"] == ["table_uri"]
    assert all(item["title"] and len(item["description"]) > 10 for item in schema["properties"].values())
    assert schema["properties"]["retention_hours"]["minimum"] == 0
