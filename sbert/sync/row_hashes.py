"""Hash the rows of a table by key, by content and by vector; hashes are comparable within this process only."""

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.table.duplicate_keys import row_keys
from sbert.table.record_file import Keys
from sbert.table.shards import embedding_matrix

__all__ = ["KEY_NAMES", "row_hashes", "vector_hashes"]

KEY_NAMES = ["source", "id"]


def row_hashes(rows: pa.RecordBatch) -> tuple[Keys, Keys]:
    """Return the hashes of keys and of content, each of shape (rows, 2).

    Args:
        rows: the keys, and columns other than the vector. Rows of keys alone have the keys as content.
    """
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    keys = row_keys(frame, *KEY_NAMES)
    content = [name for name in frame.columns if name not in KEY_NAMES]
    if not content:
        return keys, keys
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    frame = frame.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)
    return keys, row_keys(frame, *content)


def vector_hashes(rows: pa.RecordBatch, dim: int) -> tuple[Keys, Keys]:
    """Return the hashes of keys and of vectors, each of shape (rows, 2)."""
    vectors = embedding_matrix(rows.column("embedding"), dim)
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(vectors.itemsize * dim), len(vectors), [None, pa.py_buffer(np.ascontiguousarray(vectors))]
    ).cast(pa.binary())
    frame = pl.from_arrow(pa.table({name: rows.column(name) for name in KEY_NAMES} | {"embedding": packed}))
    assert isinstance(frame, pl.DataFrame)
    return row_keys(frame, *KEY_NAMES), row_keys(frame, "embedding")
