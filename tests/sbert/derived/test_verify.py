"""A check of a derived table sees outputs that are missing, of other rows, or of no row."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.derived.verify import verify_derived
from sbert.errors import NotATableError
from sbert.table.delta import Table
from sbert.table.refused_versions import refuse_versions
from tests.support.made_tables import make_version


@pytest.fixture
def out(tmp_path: Path) -> str:
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    make_version(table, {"a": {str(row): row for row in range(30)}, "b": {"x": 77}})
    derive(NeighboursJob(k=2), table, out)
    return out


def shard_of(out: str, num_rows: int) -> Path:
    (name,) = [shard.name for shard in DerivedTable.open(out).shards() if shard.num_rows == num_rows]
    return Path(out) / name


def test_a_sound_table_has_no_findings(out: str) -> None:
    verification = verify_derived(out)
    assert verification.findings == []
    assert verification.num_rows == 31
    assert verification.table_version == 0


def test_a_lost_shard_is_found(out: str) -> None:
    shard_of(out, 30).unlink()
    assert "No such file" in verify_derived(out).findings[0] or "no such" in verify_derived(out).findings[0].lower()


def test_rows_in_another_order_are_found(out: str) -> None:
    path = shard_of(out, 30)
    rows = pq.read_table(path)
    pq.write_table(rows.take(list(reversed(range(30)))), path)
    assert "row 0 is '29' of a, expected '0' of a" in " ".join(verify_derived(out).findings)


def test_an_output_that_ends_early_is_found(out: str) -> None:
    path = shard_of(out, 30)
    pq.write_table(pq.read_table(path).slice(0, 10), path)
    findings = " ".join(verify_derived(out).findings)
    assert "has 10 rows, but the log says 30" in findings
    assert "the output ends after 10 rows" in findings


def test_a_flipped_bit_is_found(out: str) -> None:
    path = shard_of(out, 30)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify_derived(out).findings != []


def test_an_embeddings_table_whose_shards_were_vacuumed_cannot_be_compared(out: str) -> None:
    table = Path(out).parent / "table"
    for shard in Table.open(str(table)).shards():
        (table / shard.name).unlink()
    with pytest.raises(NotATableError, match="which lost 2 shards to a vacuum: run the job neighbours again"):
        verify_derived(out)


def test_a_version_whose_rows_were_erased_asks_for_another_run_of_the_job(out: str) -> None:
    refuse_versions(DerivedTable.open(out).info.table_uri, "an-erasure", [0])
    with pytest.raises(
        NotATableError, match=r"computed from version 0 .* were erased .*: run the job neighbours again"
    ):
        verify_derived(out)
