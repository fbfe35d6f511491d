"""Check that a derived table has an output for each row of the version that it was computed from, and for nothing else."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS, derived_fingerprint
from sbert.errors import NotATableError, SbertError
from sbert.storage.files import open_input, translate_errors
from sbert.table.delta import Table, TableShard
from sbert.table.shard_layout import locate_splits, read_split

__all__ = ["DerivedVerification", "verify_derived"]

ROWS_PER_READ = 16_384


class DerivedVerification(BaseModel):
    """The result of the check of a derived table."""

    model_config = ConfigDict(frozen=True)

    out_uri: str
    version: int
    table_version: int = Field(description="The embeddings table's version that was compared.")
    num_rows: int = Field(description="Rows that were compared.")
    findings: list[str] = Field(
        description="The faults that were found, one sentence each; empty when the table is correct."
    )


def verify_derived(out_uri: str, version: int | None = None) -> DerivedVerification:
    """Compare source, id and text hash of every row with the embeddings table, split by split.

    Raises:
        NotATableError: there is no derived table at `out_uri`, or the version that it was computed from is gone.
    """
    derived = DerivedTable.open(out_uri, version)
    try:
        table = Table.open(derived.info.table_uri, derived.info.table_version)
    except NotATableError as error:
        raise NotATableError(
            f"{out_uri}: it was computed from version {derived.info.table_version} of {derived.info.table_uri}, which "
            f"cannot be opened ({error}): run the job {derived.info.job} again"
        ) from error
    located = locate_splits(table.uri, table.shards())
    rows: dict[str, int] = {}
    for shard in located:
        for part in shard.splits:
            rows[part.fingerprint] = rows.get(part.fingerprint, 0) + part.num_rows
    shards: dict[str, list[TableShard]] = {}
    for shard in derived.shards():
        shards.setdefault(shard.fingerprint, []).append(shard)
    findings: list[str] = []
    num_rows = 0
    for split, count in sorted(rows.items()):
        name = derived_fingerprint(split, count, derived.info.job_fingerprint)
        if name not in shards:
            findings.append(f"split {split} of {count:,} rows has no output")
            continue
        try:
            difference = _differing_row(
                derived, shards.pop(name), read_split(table.uri, located, split, list(KEY_COLUMNS))
            )
        except SbertError as error:
            findings.append(f"split {split}: {error}")
            continue
        if difference is not None:
            findings.append(f"split {split}: {difference}")
        num_rows += count
    findings += [f"shard {shard.name} is of no split" for left in shards.values() for shard in left]
    return DerivedVerification(
        out_uri=derived.uri,
        version=derived.version,
        table_version=table.version,
        num_rows=num_rows,
        findings=findings,
    )


def _differing_row(derived: DerivedTable, shards: list[TableShard], rows: Iterator[pa.Table]) -> str | None:
    """Return what is wrong with the first row that differs; None when all are equal."""
    place = 0
    output = _Stream(_read(derived, shards))
    for block in rows:
        wanted = block.select(KEY_COLUMNS)
        got = output.take(len(wanted))
        for number, (left, right) in enumerate(zip(wanted.to_pylist(), got.to_pylist(), strict=False)):
            if left != right:
                return (
                    f"row {place + number} is {right['id']!r} of {right['source']}, expected {left['id']!r} of "
                    f"{left['source']}"
                )
        if len(got) < len(wanted):
            return f"the output ends after {place + len(got):,} rows"
        place += len(wanted)
    return "the output has more rows than the split" if len(output.take(1)) else None


class _Stream:
    """Rows of a stream, any number at a time."""

    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        self._blocks = blocks
        self._rest: pa.Table | None = None

    def take(self, count: int) -> pa.Table:
        parts: list[pa.Table] = []
        while count:
            block = self._rest if self._rest is not None else next(self._blocks, None)
            self._rest = None
            if block is None:
                break
            parts.append(block.slice(0, count))
            if len(block) > count:
                self._rest = block.slice(count)
            count -= len(parts[-1])
        return pa.concat_tables(parts) if parts else pa.table({})


def _read(derived: DerivedTable, shards: list[TableShard]) -> Iterator[pa.Table]:
    for shard in shards:
        uri = derived.shard_uri(shard.name)
        with (
            open_input(uri, in_order=False) as file,
            translate_errors(uri),
            pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        ):
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=list(KEY_COLUMNS)):
                yield pa.Table.from_batches([batch])
