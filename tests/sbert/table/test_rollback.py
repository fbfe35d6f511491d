"""An earlier version comes back whole: rows, columns, encoder."""

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.errors import CommitConflictError, NotATableError, SettingsError, TableError
from sbert.index.search import search_table
from sbert.refresh.job import RefreshSettings
from sbert.table import rollback as library
from sbert.table.delta import Table
from sbert.table.rollback import roll_back
from tests.support.made_tables import remove_shards_of_version
from tests.support.services import S3Server
from tests.support.tables import objects_apart, read, rows, texts, update, write
from tests.support.tiny_models import save_tiny


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    """Two versions: in the second one object is changed, one new, one kept."""
    write(tmp_path / "raw/0.jsonl", rows(0, 5))
    write(tmp_path / "raw/1.jsonl", rows(5, 5))
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=objects_apart())
    write(tmp_path / "raw/1.jsonl", rows(20, 7))
    write(tmp_path / "raw/2.jsonl", rows(40, 3))
    update(tmp_path / "raw", tmp_path / "table", settings=objects_apart())
    return str(tmp_path / "table")


def test_a_rollback_restores_the_version_before_and_a_second_one_undoes_it(table: str) -> None:
    first, second = read(table, 0), read(table, 1)
    done = roll_back(table)
    assert done.version == 2
    assert done.restored == 0
    assert done.replaced == 1
    assert done.num_rows == 10
    assert done.num_rows_before == 15
    assert read(table).equals(first)
    assert read(table, 1).equals(second)  # readers of the version rolled back keep it
    assert roll_back(table).restored == 1
    assert read(table).equals(second)
    assert Table.open(table).last_commit()["operation"] == "rollback"


def test_a_rollback_brings_the_statistics_of_shards_back(table: str) -> None:
    before = Table.open(table, 0).shards()
    roll_back(table)
    assert Table.open(table).shards() == before
    assert pl.scan_delta(table).filter(pl.col("id") == "7").collect().height == 1


def test_the_next_refresh_goes_forward_without_encoding(tmp_path: Path, table: str) -> None:
    second = read(table)
    roll_back(table)
    _, _, _, counts = update(tmp_path / "raw", table, settings=objects_apart())
    assert counts.num_texts_encoded == 0
    assert read(table).equals(second)


def test_a_rollback_brings_the_earlier_encoder_back(tmp_path: Path, table: str, model: str) -> None:
    other = save_tiny(tmp_path / "other", seed=2)
    update(tmp_path / "raw", table, model=other, settings=objects_apart())
    switched = read(table)
    roll_back(table)
    assert Table.open(table).encoder.model == model
    assert search_table(Table.open(table), texts(2, 1)[0]).hits()[0].id == "2"
    _, _, version, counts = update(tmp_path / "raw", table, settings=objects_apart())
    assert version == 3
    assert counts.num_rows_read == 0  # the table's own encoder is the old one again
    assert roll_back(table).encoder == other
    assert read(table).equals(switched)


def test_columns_that_finished_splits_hold_come_again(tmp_path: Path, table: str) -> None:
    kept = RefreshSettings.model_validate({**objects_apart().model_dump(), "source": {"keep_columns": ["kind"]}})
    update(tmp_path / "raw", table, settings=kept)
    with_kind = read(table)
    roll_back(table)
    _, _, _, counts = update(tmp_path / "raw", table, settings=kept)
    assert counts.num_texts_encoded == 0
    assert read(table).equals(with_kind)


def test_finished_splits_with_other_types_are_written_anew_from_their_vectors(tmp_path: Path, model: str) -> None:
    kept = objects_apart(source={"keep_columns": ["size"]})
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "1.jsonl", [{"id": "1", "text": texts(1, 1)[0], "size": 1}])
    update(raw, table, model=model, settings=objects_apart())
    update(raw, table, settings=kept)
    whole = read(table)
    roll_back(table)
    write(raw / "0.jsonl", [{"id": "0", "text": texts(0, 1)[0], "size": 1.5}])  # the first object decides the types
    _, _, _, counts = update(raw, table, settings=kept)
    assert counts.num_texts_encoded == 1
    assert read(table).select("id", "size").rows() == [("0", 1.5), ("1", 1.0)]
    assert read(table).filter(pl.col("id") == "1")["embedding"].equals(whole["embedding"])
    assert read(table, 1).equals(whole)


def test_a_rollback_brings_the_earlier_kept_columns_back(tmp_path: Path, table: str) -> None:
    kept = RefreshSettings.model_validate({**objects_apart().model_dump(), "source": {"keep_columns": ["kind"]}})
    update(tmp_path / "raw", table, settings=kept)
    assert "kind" in read(table).columns
    roll_back(table)
    assert "kind" not in read(table).columns
    roll_back(table)
    assert set(read(table)["kind"]) == {"even", "odd"}


def test_a_version_that_cannot_be_restored_is_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(
        SettingsError, match="cannot go back to version 1: the table is at version 1, and earlier versions are 0"
    ):
        roll_back(table, 1)
    with pytest.raises(SettingsError, match="cannot go back to version -3"):
        roll_back(table, -3)
    with pytest.raises(NotATableError):
        roll_back(str(tmp_path / "nothing"))
    remove_shards_of_version(table, 0)
    with pytest.raises(TableError, match=r"version 0 cannot be restored: 1 of its 2 shards are gone \(vacuumed"):
        roll_back(table)
    assert Table.open(table).version == 1


def test_a_table_of_one_version_has_nothing_to_go_back_to(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/0.jsonl", rows(0, 5))
    update(tmp_path / "raw", tmp_path / "table", model=model)
    with pytest.raises(SettingsError, match="its first, so there is no earlier one to go back to"):
        roll_back(str(tmp_path / "table"))


def test_a_commit_in_between_is_not_rolled_back(tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = library.commit

    def overtaken(*args: object, **options: object) -> int:
        monkeypatch.setattr(library, "commit", real)
        write(tmp_path / "raw/3.jsonl", rows(60, 3))
        update(tmp_path / "raw", table, settings=objects_apart())
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(library, "commit", overtaken)
    with pytest.raises(CommitConflictError):
        roll_back(table)
    assert Table.open(table).version == 2


@pytest.mark.s3
def test_the_command_rolls_back_a_table_on_s3(tmp_path: Path, model: str, s3: S3Server, s3_bucket: str) -> None:
    import json

    s3.filesystem().put_file(str(write(tmp_path / "0.jsonl", rows(0, 5))), f"{s3_bucket}/raw/0.jsonl")
    table = f"{s3_bucket}/table"
    update(f"{s3_bucket}/raw", table, model=model)
    s3.filesystem().put_file(str(write(tmp_path / "0.jsonl", rows(10, 6))), f"{s3_bucket}/raw/0.jsonl")
    update(f"{s3_bucket}/raw", table)
    done = CliRunner().invoke(app, ["rollback", table, "--version", "0", "--json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 0
    assert answer["version"] == 2
    assert answer["restored"] == 0
    assert answer["num_rows"] == 5
    assert set(read(table)["id"]) == set("01234")
    again = CliRunner().invoke(app, ["rollback", table, "--version", "0", "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["error"]["kind"] == "SettingsError"
