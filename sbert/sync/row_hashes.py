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


def vector_hashes(rows: pa.Table, dim: int) -> Keys:
    """Return the hashes of the vectors, shape (rows, 2)."""
    parts = [_of_bytes(embedding_matrix(column, dim)) for column in rows["embedding"].chunks if len(column)]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def _of_bytes(vectors_ND: np.ndarray) -> Keys:
    width = vectors_ND.itemsize * vectors_ND.shape[1]
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(vectors_ND), [None, pa.py_buffer(np.ascontiguousarray(vectors_ND))]
    ).cast(pa.binary())
    return row_keys(pl.DataFrame({"embedding": packed}), "embedding")
