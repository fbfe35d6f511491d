"""Check a whole table: everything a reader relies on, shard by shard.

The one idea: nothing is assumed of the files but what the log and the table's metadata say; whatever differs becomes a
finding, and the check goes on. Memory holds a block of rows, whatever the table's size.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import QualityError, StorageError, TableError
from sbert.storage.files import open_input
from sbert.table.delta import METADATA_KEY, EncoderInfo, Table, TableShard
from sbert.table.duplicate_keys import KeyLedger, row_keys
from sbert.table.shard_layout import is_compacted, locate_splits
from sbert.table.shards import stored_vectors, vector_names
from sbert.table.text_index import HASH_BYTES
from sbert.vectors.precision import norm_tolerance, restore
from sbert.vectors.quality import check_vectors

__all__ = ["Verification", "verify_table"]

MAX_NAMED = 5
ROWS_PER_READ = 65_536


class Verification(BaseModel):
    """What a check of a table found."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int
    num_shards: int
    num_rows: int = Field(description="Rows that could be read.")
    findings: list[str] = Field(description="What is wrong, one sentence each; empty when all is well.")


def verify_table(table_uri: str, version: int | None = None) -> Verification:
    """Read every row of a version and check it.

    Checked are: every shard can be read and has the log's size and number of rows, the table's columns and encoder;
    keys and hashes are there and 16 bytes long; vectors have the table's dim, are finite and of the right norm; no
    ``(source, id)`` occurs twice; compacted shards name splits that add up to their rows.
    """
    table = Table.open(table_uri, version)
    shards = table.shards()
    findings: list[str] = []
    num_rows = 0
    with KeyLedger(keep="first") as ledger:
        starts: list[int] = []
        for shard in shards:
            starts.append(num_rows)
            try:
                for batch in _checked(table, shard, findings):
                    keys = _keys(batch)
                    ledger.add(keys, np.arange(num_rows, num_rows + len(keys), dtype=np.int64))
                    num_rows += len(keys)
            except (StorageError, pa.ArrowException, OSError, ValueError) as error:
                findings.append(f"{shard.name}: cannot be read to its end: {' '.join(str(error).split())}")
        findings += _describe_duplicates(table, shards, starts, ledger)
    return Verification(
        table_uri=table.uri, version=table.version, num_shards=len(shards), num_rows=num_rows, findings=findings
    )


def _checked(table: Table, shard: TableShard, findings: list[str]) -> Iterator[pa.RecordBatch]:
    """Give the blocks of a shard, noting what is wrong with them."""
    with open_input(table.shard_uri(shard.name), in_order=False) as file, pq.ParquetFile(file) as parquet:
        findings += _check_footer(table, shard, parquet)
        if parquet.schema_arrow.remove_metadata() != table.arrow_schema:
            return
        num_rows = 0
        found: dict[str, int] = {}
        for batch in parquet.iter_batches(batch_size=ROWS_PER_READ):
            for problem in _check_rows(table, batch):
                found.setdefault(problem, num_rows)
            num_rows += batch.num_rows
            yield batch.select(["source", "id"])
        findings += [f"{shard.name}: {problem} (in the block at row {row})" for problem, row in found.items()]


def _check_footer(table: Table, shard: TableShard, parquet: pq.ParquetFile) -> list[str]:
    found = []
    size = parquet.metadata.num_rows
    if size != shard.num_rows:
        found.append(f"{shard.name}: has {size} rows, the log says {shard.num_rows}")
    schema = parquet.schema_arrow
    if schema.remove_metadata() != table.arrow_schema:
        found.append(
            f"{shard.name}: has the columns {_columns(schema)}, the table {_columns(table.arrow_schema)}; its rows were "
            "not checked"
        )
    written = (schema.metadata or {}).get(METADATA_KEY.encode())
    try:
        made_by = EncoderInfo.model_validate_json(written) if written else None
    except ValidationError:
        made_by = None
    if made_by is None:
        found.append(f"{shard.name}: its footer names no encoder")
    elif made_by.fingerprint != table.encoder.fingerprint:
        found.append(
            f"{shard.name}: made by {made_by.model} ({made_by.fingerprint[:12]}), the table's encoder is "
            f"{table.encoder.model} ({table.encoder.fingerprint[:12]})"
        )
    if is_compacted(shard.fingerprint):
        try:
            named = sum(rows.num_rows for rows in locate_splits(table.uri, [shard])[0].splits)
        except TableError as error:
            found.append(str(error))
        else:
            if named != size:
                found.append(f"{shard.name}: names splits of {named} rows and has {size}")
    return found


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _check_rows(table: Table, batch: pa.RecordBatch) -> list[str]:
    info = table.encoder
    found = [
        f"{batch.column(name).null_count} rows have no {name}"
        for name in ("id", "source", "text_hash", *vector_names(info.precision), "num_tokens", "truncated")
        if batch.column(name).null_count
    ]
    if not found:
        lengths = pc.binary_length(batch.column("text_hash")).to_numpy(zero_copy_only=False)
        if (lengths != HASH_BYTES).any():
            found.append(f"{int((lengths != HASH_BYTES).sum())} text hashes are not {HASH_BYTES} bytes long")
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
            found.append(str(error))
    return found


def _keys(batch: pa.RecordBatch) -> np.ndarray:
    import polars as pl

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
        with open_input(table.shard_uri(shards[number].name), in_order=False) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=["source", "id"]):
                if row < batch.num_rows:
                    named.append(f"{tuple(batch.slice(row, 1).to_pylist()[0].values())} in {shards[number].name}")
                    break
                row -= batch.num_rows
    more = f", and {len(repeated) - MAX_NAMED} more" if len(repeated) > MAX_NAMED else ""
    return [f"{len(repeated)} rows have a (source, id) that another row has: {'; '.join(named)}{more}"]
