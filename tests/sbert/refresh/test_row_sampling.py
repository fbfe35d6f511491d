"""The rows of a first run are guessed from the beginning of the largest object."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from sbert.refresh.fingerprints import plan_split
from sbert.refresh.row_sampling import HEAD_BYTES, sample_num_rows
from sbert.source.listing import list_objects
from sbert.source.settings import SplitSettings
from sbert.source.splits import make_splits
from tests.support.tables import rows, write


def sampled(folder: Path) -> int | None:
    splits = make_splits(list_objects(str(folder)), SplitSettings())
    return sample_num_rows([plan_split(split, "rows") for split in splits])


def test_a_large_file_is_guessed_from_its_beginning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(0, 10_000))
    assert path.stat().st_size > 2 * HEAD_BYTES
    assert sampled(tmp_path) == pytest.approx(10_000, rel=0.05)


def test_parquet_is_counted_by_its_footer(tmp_path: Path) -> None:
    pl.DataFrame(rows(0, 500)).write_parquet(tmp_path / "a.parquet")
    assert sampled(tmp_path) == 500


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt", "a.parquet"])
def test_an_object_that_does_not_show_its_rows_gives_no_guess(tmp_path: Path, name: str) -> None:
    content = b'{"id": "1", "text": "red"}\n' * 50
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert sampled(tmp_path) is None


def test_nothing_to_build_has_no_rows_to_guess() -> None:
    assert sample_num_rows([]) is None
