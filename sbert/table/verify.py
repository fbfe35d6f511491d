"""Check a whole table: everything a reader relies on, shard by shard.

The check compares the files with the log and with the table's metadata, and assumes nothing else. Every difference
becomes a finding, and the check goes on. A shard whose bytes are damaged is named and not parsed. Memory holds a block of
rows, whatever the table's size.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.counted import counted
from sbert.errors import QualityError, StorageError, TableError
from sbert.table.commit_record import METADATA_KEY
from sbert.table.delta import Table
from sbert.table.duplicate_keys import KeyLedger, row_keys
from sbert.table.encoder_info import EncoderInfo
from sbert.table.record_file import Keys
from sbert.table.segment_check import index_findings, word_index_findings
from sbert.table.shard_file import file_checksum_problem, is_damage, open_shard
from sbert.table.shard_layout import is_compacted, locate_splits
from sbert.table.shards import stored_vectors, vector_names
from sbert.table.table_shard import TableShard
from sbert.table.text_index import HASH_BYTES
from sbert.vectors.checks import check_vectors
from sbert.vectors.precision import norm_tolerance, restore

__all__ = ["Verification", "verify_table"]

MAX_NAMED = 5
ROWS_PER_READ = 65_536


class Verification(BaseModel):
    """The outcome of a check of a table."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int
    num_shards: int
    num_rows: int = Field(description="Rows that could be read.")
    num_shards_without_checksum: int = Field(
        default=0, description="Shards of earlier versions of this library; not every flipped bit is found in them."
    )
    findings: list[str] = Field(description="Findings, one sentence each; empty when all is well.")


def verify_table(table_uri: str, version: int | None = None) -> Verification:
    """Read every byte and every row of a version and check it.

    The check covers, for each shard: its size, checksum, number of rows, columns and encoder; the log's statistics; keys
    and hashes that are null or of the wrong length; vectors of the wrong dim or norm, or with NaN; rows that share a
    ``(source, id)``; for compacted shards, whether the splits they name add up to their rows; and every byte of the index.
    """
    table = Table.open(table_uri, version)
    shards = table.shards()
    findings = _check_statistics(shards)
    num_rows = num_without_checksum = 0
    with KeyLedger(keep="first") as ledger:
        starts: list[int] = []
        for shard in shards:
            starts.append(num_rows)
            try:
                problem, has_checksum = file_checksum_problem(table.shard_uri(shard.name), shard.num_bytes)
                num_without_checksum += not has_checksum
                if is_damage(problem):
                    findings.append(f"{shard.name}: {problem}; its rows were not read")
                    continue
                findings += [f"{shard.name}: {problem}"] if problem else []
                for batch in _checked(table, shard, findings):
                    keys = _keys(batch)
                    ledger.add(keys, np.arange(num_rows, num_rows + len(keys), dtype=np.int64))
                    num_rows += len(keys)
            except (StorageError, TableError, pa.ArrowException, OSError, ValueError) as error:
                findings.append(f"{shard.name}: cannot be read to its end: {' '.join(str(error).split())}")
        findings += _describe_duplicates(table, shards, starts, ledger)
    findings += index_findings(table.uri) + word_index_findings(table.uri)
    return Verification(
        table_uri=table.uri,
        version=table.version,
        num_shards=len(shards),
        num_rows=num_rows,
        num_shards_without_checksum=num_without_checksum,
        findings=findings,
    )


def _check_statistics(shards: list[TableShard]) -> list[str]:
    """Find statistics in the log by which readers pass over rows that a filter asks for."""
    with_bounds = [shard.name for shard in shards if shard.has_bounds]
    if not with_bounds:
        return []
    return [
        f"the log has bounds of some columns for {len(with_bounds)} of {len(shards)} shards (first: {with_bounds[0]}): "
        "readers find too few rows under filters; run `sbert refresh` or `sbert compact`, which replace them"
    ]


def _checked(table: Table, shard: TableShard, findings: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a shard, and note their faults."""
    with open_shard(table.shard_uri(shard.name)) as parquet:
        findings += _check_footer(table, shard, parquet)
        if parquet.schema_arrow.remove_metadata() != table.arrow_schema:
            return
        num_rows = 0
        first_row_of: dict[str, int] = {}
        for batch in parquet.iter_batches(batch_size=ROWS_PER_READ):
            for problem in _check_rows(table, batch):
                first_row_of.setdefault(problem, num_rows)
            num_rows += batch.num_rows
            yield batch.select(["source", "id"])
        findings += [f"{shard.name}: {problem} (in the block at row {row})" for problem, row in first_row_of.items()]


def _check_footer(table: Table, shard: TableShard, parquet: pq.ParquetFile) -> list[str]:
    findings = []
    num_rows = parquet.metadata.num_rows
    if num_rows != shard.num_rows:
        findings.append(f"{shard.name}: has {counted(num_rows, 'row')}, but the log says {shard.num_rows:,}")
    schema = parquet.schema_arrow
    if schema.remove_metadata() != table.arrow_schema:
        findings.append(
            f"{shard.name}: has the columns {_columns(schema)}, the table {_columns(table.arrow_schema)}; its rows were "
            "not checked"
        )
    encoder_json = (schema.metadata or {}).get(METADATA_KEY.encode())
    try:
        encoder = EncoderInfo.model_validate_json(encoder_json) if encoder_json else None
    except ValidationError:
        encoder = None
    if encoder is None:
        findings.append(f"{shard.name}: its footer names no encoder")
    elif encoder.fingerprint != table.encoder.fingerprint:
        findings.append(
            f"{shard.name}: made by {encoder.model} ({encoder.fingerprint[:12]}), the table's encoder is "
            f"{table.encoder.model} ({table.encoder.fingerprint[:12]})"
        )
    if is_compacted(shard.fingerprint):
        try:
            num_named = sum(rows.num_rows for rows in locate_splits(table.uri, [shard])[0].splits)
        except TableError as error:
            findings.append(str(error))
        else:
            if num_named != num_rows:
                findings.append(f"{shard.name}: names splits of {counted(num_named, 'row')}, but has {num_rows:,}")
    return findings


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _check_rows(table: Table, batch: pa.RecordBatch) -> list[str]:
    info = table.encoder
    findings = [
        f"{batch.column(name).null_count} rows have no {name}"
        for name in ("id", "source", "text_hash", *vector_names(info.precision), "num_tokens", "truncated")
        if batch.column(name).null_count
    ]
    if not findings:
        lengths = pc.binary_length(batch.column("text_hash")).to_numpy(zero_copy_only=False)
        if (lengths != HASH_BYTES).any():
            findings.append(f"{int((lengths != HASH_BYTES).sum())} text hashes are not {HASH_BYTES} bytes long")
        try:
            stored = stored_vectors(batch, info.dim, info.precision)
            check_vectors(
                restore(stored),
                dim=info.dim,
                normalized=info.normalized,
                what="vectors",
                tolerance=norm_tolerance(stored),
            )
        except (QualityError, ValueError) as error:
            findings.append(str(error))
    return findings


def _keys(batch: pa.RecordBatch) -> Keys:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return row_keys(frame, "source", "id")


def _describe_duplicates(table: Table, shards: list[TableShard], starts: list[int], ledger: KeyLedger) -> list[str]:
    repeated = ledger.superseded()
    if not len(repeated):
        return []
    named = []
    for position in repeated[:MAX_NAMED].tolist():
        number = int(np.searchsorted(starts, position, side="right")) - 1
        row = position - starts[number]
        with open_shard(table.shard_uri(shards[number].name)) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=["source", "id"]):
                if row < batch.num_rows:
                    named.append(f"{tuple(batch.slice(row, 1).to_pylist()[0].values())} in {shards[number].name}")
                    break
                row -= batch.num_rows
    more = f", and {len(repeated) - MAX_NAMED} more" if len(repeated) > MAX_NAMED else ""
    return [f"{counted(len(repeated), 'row')} with a (source, id) that another row has: {'; '.join(named)}{more}"]
