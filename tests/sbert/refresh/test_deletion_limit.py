"""Rows and objects that disappear are counted, and too many of them stop the run."""

import gzip
from pathlib import Path

import pytest

from sbert.errors import MassDeletionError
from sbert.refresh.job import RefreshSettings
from sbert.refresh.plan import make_plan
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tables import objects_apart, read, rows, write
from tests.support.tiny_models import save_tiny


def corpus(folder: Path, count: int, num_rows: int = 4) -> None:
    for number in range(count):
        write(folder / f"{number}.jsonl", rows(number * num_rows, num_rows))


@pytest.mark.parametrize("settings", [RefreshSettings(), objects_apart()], ids=["packed", "apart"])
def test_too_many_objects_gone_stops_before_anything_is_built(
    tmp_path: Path, model: str, settings: RefreshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(tmp_path / "raw", 5)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    files = sorted((tmp_path / "table").rglob("*"))
    (tmp_path / "raw/1.jsonl").unlink()
    (tmp_path / "raw/3.jsonl").unlink()
    with pytest.raises(
        MassDeletionError, match=r"2 of 5 source objects \(40.0%\) and 8 of 20 rows \(40.0%\).*1\.jsonl.*--allow-drop"
    ):
        refreshed(tmp_path / "raw", tmp_path / "table", settings=settings)
    assert sorted((tmp_path / "table").rglob("*")) == files
    refreshed(tmp_path / "raw", tmp_path / "table", settings=settings.allowing_drops(True))
    assert read(tmp_path / "table").height == 12


def test_one_of_five_is_accepted_and_few_objects_with_many_rows_are_not(tmp_path: Path, model: str) -> None:
    corpus(tmp_path / "raw", 5)
    write(tmp_path / "raw/big.jsonl", rows(100, 30))
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    (tmp_path / "raw/0.jsonl").unlink()
    assert refreshed(tmp_path / "raw", tmp_path / "table").version == 1
    (tmp_path / "raw/big.jsonl").unlink()
    with pytest.raises(MassDeletionError, match=r"1 of 5 source objects \(20.0%\) and 30 of 46 rows \(65.2%\)"):
        refreshed(tmp_path / "raw", tmp_path / "table")


def test_changed_renamed_and_reencoded_objects_are_no_loss(tmp_path: Path, model: str) -> None:
    corpus(tmp_path / "raw", 4)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    for number in range(4):
        (tmp_path / f"raw/{number}.jsonl").rename(tmp_path / f"raw/renamed-{number}.jsonl")
    assert refreshed(tmp_path / "raw", tmp_path / "table").report.num_rows_carried == 16
    for number in range(4):
        write(tmp_path / f"raw/renamed-{number}.jsonl", rows(50 + number * 4, 4))
    refreshed(tmp_path / "raw", tmp_path / "table")
    other = save_tiny(tmp_path / "other", seed=3)
    refreshed(tmp_path / "raw", tmp_path / "table", model=other)
    strict = RefreshSettings.model_validate({"cleaning": {"min_chars": 40}})
    refreshed(tmp_path / "raw", tmp_path / "table", settings=strict)  # fewer rows, as asked for
    assert 0 < Table.open(str(tmp_path / "table")).num_rows < 10


def test_another_corpus_under_a_wrong_prefix_is_a_loss(tmp_path: Path, model: str) -> None:
    corpus(tmp_path / "raw", 4)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    write(tmp_path / "other/a.jsonl", rows(100, 50))
    with pytest.raises(MassDeletionError, match="4 of 4 source objects"):
        refreshed(tmp_path / "other", tmp_path / "table")


def test_objects_that_all_turned_empty_stop_before_the_commit(tmp_path: Path, model: str) -> None:
    corpus(tmp_path / "raw", 4)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    for number in range(4):
        (tmp_path / f"raw/{number}.jsonl").write_bytes(b"")
    with pytest.raises(MassDeletionError, match=r"0 of 4 source objects \(0.0%\) and 16 of 16 rows"):
        refreshed(tmp_path / "raw", tmp_path / "table")
    assert Table.open(str(tmp_path / "table")).num_rows == 16


def test_a_lost_record_does_not_hide_a_loss(tmp_path: Path, model: str) -> None:
    corpus(tmp_path / "raw", 2)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    for record in (tmp_path / "table/_splits").iterdir():
        record.unlink()
    (tmp_path / "raw/0.jsonl").unlink()
    with pytest.raises(MassDeletionError, match="1 of 2 source objects"):
        refreshed(tmp_path / "raw", tmp_path / "table", settings=objects_apart())


def test_unreadable_objects_are_no_loss(tmp_path: Path, model: str) -> None:
    for number in range(2):
        path = write(tmp_path / f"raw/{number}.jsonl", rows(number * 9, 9))
        (tmp_path / f"raw/{number}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    for number in range(2):
        (tmp_path / f"raw/{number}.jsonl.gz").write_bytes(b"\x1f\x8bnonsense")
    refreshed(tmp_path / "raw", tmp_path / "table")
    assert Table.open(str(tmp_path / "table")).num_rows == 18


def test_the_plan_says_what_would_be_lost(tmp_path: Path, model: str) -> None:
    from sbert.refresh.job import RefreshJob

    corpus(tmp_path / "raw", 4)
    refreshed(tmp_path / "raw", tmp_path / "table", model=model)
    (tmp_path / "raw/2.jsonl").unlink()
    losses = make_plan(RefreshJob(raw_uri=str(tmp_path / "raw"), table_uri=str(tmp_path / "table"))).losses
    assert losses.num_objects == 4
    assert losses.num_objects_lost == 1
    assert losses.num_rows == 16
    assert losses.num_rows_lost == 4
    assert losses.examples == [str(tmp_path / "raw/2.jsonl")]
