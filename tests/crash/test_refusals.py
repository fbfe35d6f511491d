"""A full disk, denied access, two refreshes at once: a clear error or one correct table, and nothing is lost."""

import errno
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from sbert.errors import StorageError
from sbert.table.delta import Table
from tests.crash import corpora
from tests.crash.corpora import SETTINGS, assert_same, contents, copy_folder
from tests.crash.forks import Forks
from tests.crash.points import Strike, watched
from tests.crash.small_disks import small_disk
from tests.crash.test_faults import use
from tests.support.fault_proxy import DENIED, fault_proxy
from tests.support.refreshing import refreshed
from tests.support.services import S3Server

REFUSALS = {
    "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
    "access denied": PermissionError(errno.EACCES, "Permission denied"),
}


def raising(error: OSError) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("message", REFUSALS)
@pytest.mark.parametrize("num_places", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_when_the_disk_refuses_a_write_the_version_before_stays_and_the_next_run_heals(
    tmp_path: Path, model: str, message: str, num_places: int
) -> None:
    raw, base, undisturbed = (str(tmp_path / name) for name in ("raw", "base", "undisturbed"))
    corpora.write_objects(raw, corpora.first_state())
    refreshed(raw, base, model, SETTINGS)
    corpora.write_objects(raw, corpora.second_state())
    copy_folder(base, undisturbed)
    with watched() as points:
        refreshed(raw, undisturbed, model, SETTINGS)
    before, after = contents(base), contents(undisturbed)
    chance = random.Random(message)
    for number in range(num_places):
        table = str(tmp_path / f"table-{number}")
        copy_folder(base, table)
        strike = Strike(chance.randrange(len(points.names) - 1))
        with (
            watched(strike, raising(REFUSALS[message])),
            pytest.raises(StorageError, match=f"{table}.*{message}") as caught,
        ):
            refreshed(raw, table, model, SETTINGS)
        assert not caught.value.transient
        assert_same(contents(table), before, tolerance=0)
        refreshed(raw, table, model, SETTINGS)
        assert_same(contents(table), after)


@pytest.mark.slow
def test_a_file_system_that_runs_out_of_space_keeps_the_version_before(tmp_path: Path, model: str) -> None:
    raw = str(tmp_path / "raw")
    refused = test_when_the_disk_refuses_a_write_the_version_before_stays_and_the_next_run_heals
    with small_disk(tmp_path / "disk", "200k", without_root=refused.__name__) as disk:
        table = str(disk.folder / "table")
        corpora.write_objects(raw, {"a.jsonl": corpora.rows(0, 60)})
        refreshed(raw, table, model, SETTINGS)
        before = contents(table)
        corpora.write_objects(raw, {f"{letter}.jsonl": corpora.rows(0, 600) for letter in "abcdef"})
        with pytest.raises(StorageError, match="the disk is full"):
            refreshed(raw, table, model, SETTINGS)
        assert_same(contents(table), before, tolerance=0)
        disk.resize("50m")
        refreshed(raw, table, model, SETTINGS)
        assert Table.open(table).num_rows == 3600


def test_a_full_temporary_folder_is_named_in_the_error(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora.write_objects(str(tmp_path / "raw"), {"a.jsonl": corpora.rows(0, 60)})

    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr("sbert.table.record_file.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(StorageError, match=f"{tempfile.gettempdir()}.*the disk is full"):
        refreshed(str(tmp_path / "raw"), str(tmp_path / "table"), model, SETTINGS)


@pytest.mark.s3
def test_when_keys_expire_the_version_before_stays_and_new_keys_heal(
    tmp_path: Path, model: str, s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = f"{s3_bucket}/raw", f"{s3_bucket}/table"
    corpora.write_objects(raw, corpora.first_state())
    refreshed(raw, table, model, SETTINGS)
    before = contents(table)
    corpora.write_objects(raw, corpora.second_state())
    for calm_requests in (0, 7, 25, 60):
        with fault_proxy(s3, 1.0, (DENIED,), calm_requests) as proxy:
            use(proxy.address, monkeypatch, 60)
            with pytest.raises(StorageError, match=f"{proxy.address.endpoint}.*access denied") as caught:
                refreshed(raw, table, model, SETTINGS)
            assert not caught.value.transient
        use(s3, monkeypatch, 60)
        assert_same(contents(table), before, tolerance=0)
    refreshed(raw, table, model, SETTINGS)
    refreshed(raw, f"{s3_bucket}/other", model, SETTINGS)
    assert_same(contents(table), contents(f"{s3_bucket}/other"))


@pytest.mark.parametrize(
    ("where", "rounds"),
    [
        ("disk", 1),
        pytest.param("disk", 30, marks=pytest.mark.slow),
        pytest.param("s3", 10, marks=[pytest.mark.slow, pytest.mark.s3]),
    ],
)
@pytest.mark.timeout(1800)
def test_two_refreshes_at_once_make_one_correct_table(
    tmp_path: Path, model: str, where: str, rounds: int, request: pytest.FixtureRequest
) -> None:
    folder = str(tmp_path) if where == "disk" else request.getfixturevalue("s3_bucket")
    raw, base = f"{folder}/raw", f"{folder}/base"
    chance = random.Random(where)
    with ExitStack() as own:
        if where == "disk":
            forks: Forks = request.getfixturevalue("forks")
        else:
            forks = own.enter_context(Forks(tmp_path / "forks"))  # started with this bucket's environment
        for state in (corpora.first_state(), corpora.second_state()):
            corpora.write_objects(raw, state)
            job = {"raw": raw, "model": model, "settings": SETTINGS}
            expected_table = f"{folder}/expected-{len(state)}"
            if len(state) == len(corpora.second_state()):
                copy_folder(base, expected_table)
            alone = forks.start(table=expected_table, **job)
            version = alone.report().version
            expected = contents(expected_table)
            for number in range(rounds):
                table = f"{folder}/table-{len(state)}-{number}"
                if version:
                    copy_folder(base, table)
                first = forks.start(table=table, **job)
                time.sleep(chance.uniform(0, alone.seconds()) if number % 2 else 0)
                second = forks.start(table=table, **job)
                reports = [first.report(), second.report()]
                assert [report.version for report in reports] == [version, version]
                assert Table.open(table).version == version
                assert_same(contents(table), expected)
            base = expected_table
