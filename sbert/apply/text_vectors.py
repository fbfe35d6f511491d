"""Vectors of texts that are not rows of a table, such as labelled texts, in the space of the table's vectors.

A text that the table holds takes the table's vector. Every other text is encoded by the table's rules: its cleaning, prompt,
windows, dimension.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from sbert.index.queries import load_table_encoder
from sbert.rows.cleaning import clean_texts, hash_texts
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning, table_windows
from sbert.table.text_index import hash_matrix
from sbert.table.vector_cache import VectorCache
from sbert.vectors.precision import Float32, Precision, restore, truncate

__all__ = ["encode_cleaned", "table_texts", "vectors_of_texts"]


def table_texts(table: Table, texts: Sequence[str]) -> pl.Series:
    """Return texts as the table's cleaning leaves them."""
    return clean_texts(pl.Series("text", texts, dtype=pl.String), table_cleaning(table))


def vectors_of_texts(table: Table, texts: Sequence[str]) -> Float32:
    """Return the vector of each text, shape (N, dim).

    Args:
        table: the version whose rules and vectors are used.
        texts: documents, not queries.

    Raises:
        ModelError: a text is not in the table, and the table's encoder cannot be loaded.
        EncoderMismatchError: the model of that name is no longer the same encoder.
    """
    info = table.encoder
    cleaned = table_texts(table, texts)
    precision = Precision(info.precision)
    cache = VectorCache(info.dim, precision, run_file_bytes=0)
    try:
        cache.add_shards([table.shard_uri(shard.name) for shard in table.shards() if shard.num_rows])
        cached = cache.lookup(hash_matrix(hash_texts(cleaned).to_arrow()))
    finally:
        cache.close()
    vectors_ND = np.array(restore(cached.embeddings), np.float32)
    missing = np.flatnonzero(~cached.hits)
    if len(missing):
        vectors_ND[missing] = encode_cleaned(table, cleaned.gather(missing).to_list())
    return vectors_ND


def encode_cleaned(table: Table, texts: Sequence[str]) -> Float32:
    """Encode texts that `table_texts` cleaned as the table's rows were encoded, shape (N, dim); the table is not searched.

    Raises:
        ModelError: the table's encoder cannot be loaded.
        EncoderMismatchError: the model of that name is no longer the same encoder.
    """
    info = table.encoder
    whole_ND = load_table_encoder(table).encode(texts, prompt=info.prompt, windows=table_windows(table))
    return truncate(whole_ND, info.dim, normalize=info.normalized)
