"""A source means an object of the table: its whole URI, or the end of exactly one."""

from pathlib import Path

import pytest

from sbert.erase.run import erase
from sbert.erase.undo import lift_tombstones
from sbert.errors import SettingsError
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from tests.support.made_tables import make_version


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {f"s3://raw/{name}": {"t1": 1, "t2": 2} for name in ("x/tabs.tsv", "x/one.tsv", "y/one.tsv")})
    return folder


@pytest.mark.parametrize("source", ["tabs.tsv", "x/tabs.tsv", "s3://raw/x/tabs.tsv"])
def test_the_end_of_one_objects_uri_is_enough(table: str, source: str) -> None:
    assert erase(table, ErasedKeys(pairs=[(source, "t1")])).num_rows_erased == 1
    assert Table.open(table).num_rows == 5
    assert lift_tombstones(table, ErasedKeys(pairs=[(source, "t1")])).num_lifted == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("one.tsv", r"2 objects .* s3://raw/x/one.tsv, s3://raw/y/one.tsv; write the whole source"),
        ("tab.tsv", r"no object 'tab.tsv' in the table; did you mean s3://raw/x/tabs.tsv"),
        ("s3://other/z", r"no object 's3://other/z' in the table; write the source as"),
    ],
)
def test_another_source_is_an_error_before_anything_is_done(table: str, source: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        erase(table, ErasedKeys(ids=["t2"], pairs=[(source, "t1")]))
    assert Table.open(table).version == 0
    assert not Path(table, "_erased").exists()


def test_an_object_that_left_is_known_from_its_earlier_version_and_then_from_its_tombstone(table: str) -> None:
    make_version(table, {"s3://raw/x/one.tsv": {"t1": 1, "t2": 2}})
    keys = ErasedKeys(pairs=[("s3://raw/x/tabs.tsv", "t1")])
    assert erase(table, keys).num_not_found == 0
    assert erase(table, keys).is_nothing


def test_a_whole_source_that_the_table_lacks_can_be_allowed(table: str) -> None:
    receipt = erase(table, ErasedKeys(pairs=[("s3://other/z", "t1")]), allow_missing=True)
    assert receipt.ids_not_found == ["t1 of s3://other/z"]
    with pytest.raises(SettingsError, match="no object 'z'"):
        erase(table, ErasedKeys(pairs=[("z", "t1")]), allow_missing=True)
