"""Two runs of one table at once end with one correct table, and see each other."""

import threading
from pathlib import Path

import pytest

from flows.refresh import refresh_embeddings
from sbert.table.delta import Table
from sbert.table.lease import active_leases
from sbert.table.verify import verify_table
from tests.support.tables import objects_apart, rows, write, write_objects
from tests.support.tiny_models import save_tiny


@pytest.mark.usefixtures("prefect_server")
def test_two_refreshes_at_once_make_one_version_with_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, raw, table = save_tiny(tmp_path / "model"), str(tmp_path / "raw"), str(tmp_path / "table")
    write_objects(tmp_path / "raw", 3, 10)
    from sbert.refresh import publish as library

    real, both_built, seen = library.publish, threading.Barrier(2), []

    def publish_together(*args: object) -> int:
        if len(seen) < 2:
            seen.append(len(active_leases(table)))
            both_built.wait(120)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.publish.publish", publish_together)
    reports = []

    def run() -> None:
        reports.append(refresh_embeddings(raw, table, model=model, settings=objects_apart()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.version for report in reports] == [0, 0]
    assert [report.num_rows for report in reports] == [30, 30]
    assert max(seen) == 2
    assert Table.open(table).version == 0
    assert Table.open(table).num_rows == 30
    assert verify_table(table).findings == []
    assert active_leases(table) == []


def files_beside_metrics(table: Path) -> list[str]:
    """Names of all files of a table but those that tell how runs went, of which every run leaves one."""
    return sorted(path.name for path in table.rglob("*") if path.parent.name != "_runs")


@pytest.mark.usefixtures("prefect_server")
def test_a_lease_lasts_as_long_as_the_run_also_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, raw, table = save_tiny(tmp_path / "model"), str(tmp_path / "raw"), str(tmp_path / "table")
    write(tmp_path / "raw/0.jsonl", rows(0, 10))
    seen = []

    def failing(*_: object) -> int:
        seen.extend(active_leases(table))
        return 1 // 0

    with monkeypatch.context() as patch:
        patch.setattr("tasks.publish.publish", failing)
        with pytest.raises(ZeroDivisionError):
            refresh_embeddings(raw, table, model=model)
    assert [lease.operation for lease in seen] == ["refresh"]
    assert active_leases(table) == []
    refresh_embeddings(raw, table, model=model)
    names = files_beside_metrics(tmp_path / "table")
    assert refresh_embeddings(raw, table, model=model).version == 0
    assert files_beside_metrics(tmp_path / "table") == names  # nothing to do: nothing else is written
