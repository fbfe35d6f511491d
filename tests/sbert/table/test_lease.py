"""A lease shows who is at work, lives as long as the run, and locks nothing."""

import datetime as dt
import os
from pathlib import Path

import pytest

from sbert.errors import StorageError
from sbert.table import lease as library
from sbert.table.lease import Lease, active_leases, hold_lease


def test_a_lease_is_there_while_the_block_lasts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hold_lease(str(tmp_path), "first", "refresh") as others:
        assert others == []
        (lease,) = active_leases(str(tmp_path))
        assert lease.run_id == "first"
        assert lease.operation == "refresh"
        assert lease.pid == os.getpid()
        assert lease.started <= lease.heartbeat < lease.expires
        with hold_lease(str(tmp_path), "second", "backfill") as seen:
            assert [other.run_id for other in seen] == ["first"]
            assert [lease.run_id for lease in active_leases(str(tmp_path))] == ["first", "second"]
            assert "another run is at work: refresh first by" in caplog.text
    assert active_leases(str(tmp_path)) == []
    assert list((tmp_path / "_leases").iterdir()) == []


def test_a_lease_is_removed_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold_lease(str(tmp_path), "run", "refresh"):
        raise KeyboardInterrupt
    assert active_leases(str(tmp_path)) == []


def test_a_lease_that_is_not_renewed_expires(tmp_path: Path) -> None:
    with hold_lease(str(tmp_path), "run", "refresh"):
        content = next((tmp_path / "_leases").iterdir()).read_bytes()
    dead = Lease.model_validate_json(content)
    dead = dead.model_copy(update={"run_id": "dead", "expires": dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)})
    (tmp_path / "_leases/dead.json").write_text(dead.model_dump_json())
    (tmp_path / "_leases/torn.json").write_text("{")
    (tmp_path / "_leases/other.txt").write_text("note")
    assert active_leases(str(tmp_path)) == []


def test_a_lease_is_renewed_and_survives_storage_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    monkeypatch.setattr(library, "RENEW_SECONDS", 0.001)
    real, calls, renewed = library.write_bytes, [], threading.Event()

    def flaky(uri: str, content: bytes) -> None:
        calls.append(uri)
        if len(calls) == 2:
            raise StorageError("no answer", uri=uri, transient=True)
        real(uri, content)
        if len(calls) == 4:
            renewed.set()

    monkeypatch.setattr(library, "write_bytes", flaky)
    with hold_lease(str(tmp_path), "run", "refresh"):
        begun = active_leases(str(tmp_path))[0].started
        assert renewed.wait(30)
        (lease,) = active_leases(str(tmp_path))
    assert lease.started == begun < lease.heartbeat
    assert "could not be renewed: no answer" in caplog.text
