"""Read a derived table beside the embeddings table that it was computed from, row by row, without a join.

The output of a split has the split's rows in their order, so both are read side by side. Memory is that of a block.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS, derived_fingerprint
from sbert.errors import TableError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits, read_split
from sbert.table.table_shard import TableShard

__all__ = ["RowStream", "paired_rows", "read_shards"]

ROWS_PER_READ = 16_384


class RowStream:
    """Rows of a stream of blocks, any number at a time."""

    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        """Begin before the first row."""
        self._blocks = blocks
        self._rest: pa.Table | None = None

    def take(self, count: int) -> pa.Table:
        """Return the next `count` rows, or as many as there are."""
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


def read_shards(derived: DerivedTable, shards: Sequence[TableShard], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read shards of a derived table one after the other, in blocks.

    Raises:
        TableError: a shard cannot be read to its end.
    """
    for shard in shards:
        try:
            with open_shard(derived.shard_uri(shard.name)) as parquet:
                for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except pa.ArrowException as error:
            raise TableError(f"{shard.name}: cannot be read to its end: {error}") from error


def paired_rows(
    derived: DerivedTable, table: Table, derived_columns: Sequence[str], table_columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield rows with `KEY_COLUMNS`, columns of the derived table, and columns of the embeddings table.

    Args:
        derived: the derived table.
        table: the version of the embeddings table that it was computed from.
        derived_columns: columns of the derived table beside `KEY_COLUMNS`.
        table_columns: columns of the embeddings table beside `KEY_COLUMNS`, none of them in `derived_columns`.

    Raises:
        TableError: the rows of both do not belong together.
    """
    outputs: dict[str, list[TableShard]] = defaultdict(list)
    for shard in derived.shards():
        outputs[shard.fingerprint].append(shard)
    shards = locate_splits(table.uri, table.shards())
    num_rows: dict[str, int] = defaultdict(int)
    for shard in shards:
        for part in shard.splits:
            num_rows[part.fingerprint] += part.num_rows
    for split in sorted(num_rows):
        name = derived_fingerprint(split, num_rows[split], derived.info.job_fingerprint)
        output = RowStream(read_shards(derived, outputs[name], [*KEY_COLUMNS, *derived_columns]))
        for rows in read_split(table.uri, shards, split, [*KEY_COLUMNS, *table_columns]):
            paired = output.take(len(rows))
            if len(paired) != len(rows) or not paired.select(["source", "id"]).equals(rows.select(["source", "id"])):
                raise TableError(
                    f"{derived.uri}: its rows are not those of version {table.version} of {table.uri}: run the job "
                    f"{derived.info.job} again"
                )
            for column in table_columns:
                paired = paired.append_column(column, rows[column])
            yield paired
