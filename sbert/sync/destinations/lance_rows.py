"""Rows in the form in which LanceDB takes them and gives them back."""

from collections.abc import Iterator

import pyarrow as pa

from sbert.sync.destinations.base import Collection

__all__ = ["RowStream", "as_lance", "as_table_rows", "lance_schema", "merged_blocks"]


class RowStream:
    """Rows on their way into LanceDB, which hides errors of the stream behind its own."""

    def __init__(self, blocks: Iterator[pa.Table], schema: pa.Schema) -> None:
        """Send the rows of `blocks` in the columns of `schema`."""
        self._blocks = blocks
        self._schema = schema
        self.num_rows = 0
        self.error: Exception | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; an error while they are read is kept in `error`."""
        try:
            for rows in self._blocks:
                self.num_rows += len(rows)
                yield from as_lance(rows, self._schema).to_batches()
        except Exception as error:
            self.error = error
            raise


def merged_blocks(blocks: Iterator[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Join blocks until each has at least `num_rows` rows; the last may have fewer."""
    waiting: list[pa.Table] = []
    count = 0
    for rows in blocks:
        waiting.append(rows)
        count += len(rows)
        if count >= num_rows:
            yield pa.concat_tables(waiting)
            waiting, count = [], 0
    if count:
        yield pa.concat_tables(waiting)


def lance_schema(collection: Collection) -> pa.Schema:
    """Return the columns of a collection with vectors of fixed length, as LanceDB searches them."""
    return pa.schema(
        [
            pa.field("embedding", pa.list_(pa.float32(), collection.dim)) if item.name == "embedding" else item
            for item in collection.schema
        ]
    )


def as_lance(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with vectors of fixed length."""
    return rows.select(schema.names).cast(schema)


def as_table_rows(rows: pa.Table, collection: Collection) -> pa.Table:
    """Return rows in the types of the collection's schema."""
    return rows.select(collection.schema.names).cast(collection.schema)
