"""A store of another package joins by an entry point."""

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sbert.errors import SettingsError
from sbert.sync.destinations import locate
from sbert.sync.destinations.locate import open_destination
from sbert.sync.follow import SyncMethod, sync
from sbert.sync.reconcile import reconcile
from tests.support.made_tables import make_version


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("filestore", "tests.support.file_store:FileStoreDestination", locate.ENTRY_POINTS)
    monkeypatch.setattr(locate, "entry_points", lambda group: EntryPoints([point] if group == point.group else []))


@pytest.mark.usefixtures("installed")
def test_a_store_of_another_package_follows_the_table_and_is_proven(tmp_path: Path) -> None:
    table, location = str(tmp_path / "table"), f"filestore:{tmp_path / 'store'}#docs"
    make_version(table, {"a": {str(row): row for row in range(30)}})
    assert sync(table, location).method is SyncMethod.FIRST_LOAD
    make_version(table, {"a": {str(row): row for row in range(5, 30)}, "b": {"x": 3}})
    report = sync(table, location, prove=True)
    assert report.method == SyncMethod.CHANGE_FEED
    assert report.num_upserts == 1
    assert report.num_deletes == 5
    with open_destination(location) as destination:
        file = tmp_path / "store" / f"{destination.visible()}.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    reconciled = reconcile(table, location, repair_differences=True)
    assert reconciled.num_missing == 1
    assert reconciled.num_extra == 0
    assert reconciled.num_stale == 0
    assert reconciled.is_repaired
    make_version(table, {"a": {"1": 1}}, encoder_number=1)
    assert sync(table, location).is_switched


@pytest.mark.usefixtures("installed")
def test_a_store_of_another_package_is_among_those_that_an_error_names(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="begin with one of filestore, lancedb, milvus"):
        open_destination(f"other:{tmp_path}#docs")
