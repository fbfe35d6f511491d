"""What `sbert inspect` says of the consumers of a table."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.erase.run import erase
from sbert.errors import SettingsError
from sbert.sync.follow import sync
from sbert.sync.reconcile import reconcile
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import Follower, FollowerState, followers_of, forget_follower, note_follower
from tests.support.made_tables import make_version


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {"a": {str(row): row for row in range(20)}})
    return folder


def state_of(table: str, kind: str) -> FollowerState:
    (state,) = [state for state in followers_of(Table.open(table)) if state.kind == kind]
    return state


def test_a_table_without_consumers_has_none(table: str) -> None:
    assert followers_of(Table.open(table)) == []


def test_a_vector_store_is_shown_with_version_lag_rows_and_last_proof(table: str, tmp_path: Path) -> None:
    location = f"lancedb:{tmp_path / 'lance'}#docs"
    sync(table, location)
    state = state_of(table, "lancedb")
    assert state.version == 0
    assert state.num_rows == 20
    assert state.lag_versions == 0
    assert state.lag_minutes == 0.0
    assert state.coverage == 1.0
    assert state.proven_version == 0
    assert state.is_equal
    assert state.describe_lag() == "none"
    assert state.name.endswith("#docs")

    make_version(table, {"a": {str(row): row for row in range(40)}})
    state = state_of(table, "lancedb")
    assert state.lag_versions == 1
    assert state.coverage == 0.5
    assert state.newest_version == 1
    assert state.lag_minutes is not None
    assert state.age_minutes is not None
    assert state.lag_minutes <= state.age_minutes
    assert state.describe_lag().startswith("1 version, ")

    sync(table, location)
    state = state_of(table, "lancedb")
    assert state.version == 1
    assert state.lag_versions == 0
    assert state.num_rows == 40
    assert state.proven_version == 0
    assert state.is_equal is None  # the last proof stays until the next one
    reconcile(table, location)
    assert state_of(table, "lancedb").proven_version == 1
    assert state_of(table, "lancedb").is_equal


def test_a_derived_table_is_shown_too(table: str, tmp_path: Path) -> None:
    derive(NeighboursJob(k=2), table, str(tmp_path / "out"))
    state = state_of(table, "neighbours")
    assert state.version == 0
    assert state.num_rows == 20
    assert state.describe_proof() == "none yet"


def test_a_difference_is_shown_with_the_proof_before(table: str) -> None:
    proven_at = dt.datetime(2026, 11, 28, 6, 30, tzinfo=dt.UTC)
    note(table, proven_version=0, proven_at=proven_at, is_equal=False)
    assert state_of(table, "made up").describe_proof() == "differs now; version 0 on 2026-11-28 06:30 was equal"


def test_rows_of_a_consumer_that_are_not_those_of_the_table_have_no_coverage(table: str) -> None:
    note(table, has_own_rows=True)
    state = state_of(table, "made up")
    assert state.num_rows == 20
    assert state.coverage is None
    assert state.describe_coverage() == ""


def test_a_consumer_that_is_gone_is_forgotten_and_listed_again_when_it_runs_again(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    note(table, name="postgresql://reader@host/db#public.docs")
    derive(NeighboursJob(k=2), table, "out")
    version = Table.open(table)
    names = [state.name for state in followers_of(version)]
    assert names == [str(tmp_path / "out"), "postgresql://***@host/db#public.docs"]
    with pytest.raises(SettingsError, match=rf"no consumer gone: it has {tmp_path / 'out'}, postgresql"):
        forget_follower(version, "gone")
    assert forget_follower(version, "out").kind == "neighbours"
    assert forget_follower(version, "postgresql://reader@host/db#public.docs").kind == "made up"
    with pytest.raises(SettingsError, match="no consumer out: it has none"):
        forget_follower(version, "out")
    derive(NeighboursJob(k=2), table, "out")
    assert [state.kind for state in followers_of(version)] == ["neighbours"]


def test_a_copy_of_the_table_says_that_the_consumers_are_those_of_the_original(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, copy = str(tmp_path / "out"), str(tmp_path / "copy")
    derive(NeighboursJob(k=2), table, out)
    assert not state_of(table, "neighbours").is_elsewhere
    assert state_of(table, "neighbours").describe_origin() == ""
    shutil.copytree(table, copy)
    state = state_of(copy, "neighbours")
    assert state.is_elsewhere
    assert state.table_uri == table
    shown = " ".join(CliRunner().invoke(app, ["inspect", copy]).stdout.split())
    assert f"noted for {table}, of which this table is a copy or was moved from" in shown
    assert "noted for" not in CliRunner().invoke(app, ["inspect", table]).stdout
    (left,) = erase(copy, ErasedKeys(ids=["3"])).left
    assert left.problem == (
        f"it followed this table as {table}. If this table is a copy, the consumer is that of the original: run "
        f"`sbert forget {copy} {out}` first. If the table was moved, it may hold the rows: erase again with --derived {out}"
    )
    forget_follower(Table.open(copy), out)
    assert erase(copy, ErasedKeys(ids=["3"])).is_complete
    assert DerivedTable.open(out).num_rows == Table.open(table).num_rows == 20  # the original is untouched


def test_a_record_of_an_earlier_release_is_taken_for_one_of_this_table(table: str) -> None:
    note(table)
    (file,) = (Path(table) / "_followers").iterdir()
    record = json.loads(file.read_text())
    del record["table_uri"]
    file.write_text(json.dumps(record))
    assert not state_of(table, "made up").is_elsewhere


def test_no_credential_reaches_the_file(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "very-secret")
    note(table, name="postgresql://reader:very-secret@host/db#docs")
    (file,) = (Path(table) / "_followers").iterdir()
    assert "very-secret" not in file.read_text()


def test_a_file_that_is_broken_or_cannot_be_written_stops_nothing(table: str, caplog: pytest.LogCaptureFixture) -> None:
    note(table)
    (Path(table) / "_followers" / "broken.json").write_text("{")
    assert [state.kind for state in followers_of(Table.open(table))] == ["made up"]
    (Path(table) / "file").write_text("")
    note(str(Path(table) / "file"))
    assert "`sbert inspect` will not show place as it is now" in caplog.text


def note(
    table: str,
    *,
    name: str = "place",
    proven_version: int | None = None,
    proven_at: dt.datetime | None = None,
    is_equal: bool | None = None,
    has_own_rows: bool = False,
) -> None:
    note_follower(
        table,
        Follower(
            name=name,
            kind="made up",
            version=0,
            num_rows=20,
            followed_at=dt.datetime(2026, 11, 28, tzinfo=dt.UTC),
            proven_version=proven_version,
            proven_at=proven_at,
            is_equal=is_equal,
            has_own_rows=has_own_rows,
        ),
    )
