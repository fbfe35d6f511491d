"""`sbert align`, its job and its flow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.align import align_rows
from flows.cli.commands import app
from sbert.apply.alignment.job import AlignmentJob
from sbert.apply.alignment.run import align_tables
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.errors import SettingsError
from tests.support import made_tables
from tests.support.flow_runs import outcome_of_newest_run
from tests.support.made_tables import make_version


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    """Two tables whose rows of the same number have the same vector, and a place for the output."""
    left, right = str(tmp_path / "left"), str(tmp_path / "right")
    make_version(left, {"a": {f"l{row}": row for row in range(12)}, "b": {f"l{row}": row for row in range(12, 20)}})
    make_version(right, {"c": {f"r{row}": row for row in range(16)}})
    return left, right, str(tmp_path / "out")


def partners(out: str) -> dict[str, str | None]:
    rows = DerivedTable.open(out).scan().collect()
    return {row["id"]: row["match"] and row["match"]["id"] for row in rows.iter_rows(named=True)}


def test_the_command_writes_partners_and_reasons(places: tuple[str, str, str]) -> None:
    done = CliRunner().invoke(app, ["align", *places, "-k", "2", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["version"] == 0
    assert report["table_version"] == 0
    assert report["num_rows"] == 20
    assert report["num_matched"] + sum(report["num_without"].values()) == 20
    partner_by_id = partners(places[2])
    assert [partner_by_id[f"l{row}"] for row in range(16)] == [f"r{row}" for row in range(16)]
    assert verify_any(places[2]).findings == []
    shown = CliRunner().invoke(app, ["align", *places, "-k", "2"]).stdout
    assert "0 shards built (0 rows), 2 kept" in shown
    assert "rows with a partner" in shown


@pytest.mark.parametrize("empty", [0, 1], ids=["left", "right"])
def test_a_table_without_rows_has_no_partners_and_no_distance(places: tuple[str, str, str], empty: int) -> None:
    make_version(places[empty], {})
    done = CliRunner().invoke(app, ["align", *places, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["num_matched"] == 0
    assert report["sides"] is None
    assert CliRunner().invoke(app, ["align", *places]).exit_code == 0


def test_a_change_of_either_table_gives_what_a_run_from_scratch_gives(
    places: tuple[str, str, str], tmp_path: Path
) -> None:
    left, right, out = places
    align_tables(AlignmentJob.of_newest(right, k=2), left, out)
    make_version(right, {"c": {f"r{row}": row for row in range(10)}, "d": {f"r{row}": row for row in range(16, 20)}})
    report = align_tables(AlignmentJob.of_newest(right, k=2), left, out, concurrency=2)
    assert report.num_rows_built == 20
    align_tables(AlignmentJob.of_newest(right, k=2), left, str(tmp_path / "fresh"))
    assert partners(out) == partners(str(tmp_path / "fresh"))
    assert partners(out)["l17"] == "r17"


def test_both_sides_need_the_same_encoder_and_two_tables(
    places: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, _, out = places
    with pytest.raises(SettingsError, match="both sides are this table"):
        align_tables(AlignmentJob.of_newest(left), left, out)
    info = made_tables.encoder_info(1).model_copy(update={"model_fingerprint": "another"})
    monkeypatch.setattr(made_tables, "encoder_info", lambda _: info)
    other = str(tmp_path / "other")
    make_version(other, {"c": {"r": 1}})
    with pytest.raises(SettingsError, match="make both tables with one multilingual encoder"):
        align_tables(AlignmentJob.of_newest(other), left, out)


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_writes_partners_and_a_second_run_computes_nothing(places: tuple[str, str, str]) -> None:
    left, right, out = places
    report = align_rows(left, right, out, k=2)
    assert outcome_of_newest_run() == "Version 0: 20 rows, 20 computed, 16 with a partner"
    assert report.num_rows_built == 20
    assert align_rows(left, right, out, k=2).num_rows_built == 0
