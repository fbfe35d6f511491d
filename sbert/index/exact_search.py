"""Search the nearest rows of a table exactly, shard by shard.

Every vector is read, so this serves people and tests, not applications. Memory holds one row group and the best hits so far.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.process_cache import EncoderSpec, load_encoder
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.tokenization.texts import check_text
from sbert.errors import SettingsError
from sbert.rows.cleaning import CleaningSettings, clean_texts
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import truncate

__all__ = ["Hit", "load_table_encoder", "search_table"]

ROWS_PER_READ = 65_536


@dataclass(frozen=True)
class Hit:
    """A row near the query."""

    id: str
    source: str
    score: float
    """Cosine of query and row (inner product when the table's vectors are not normalized)."""
    kept: dict[str, Any]
    """The row's kept columns."""


def search_table(table: Table, query: str, k: int = 10, *, cleaning: CleaningSettings | None = None) -> list[Hit]:
    """Return the `k` rows nearest to `query`, best first.

    The query is cleaned and encoded as the table's texts were, with the encoder's query prompt.

    Raises:
        SettingsError: when `k` is below 1, the query is not valid Unicode, or nothing is left of it after cleaning.
        ModelError: when the table's encoder cannot be loaded.
        EncoderMismatchError: when the model of that name is no longer the same encoder.
    """
    if k < 1:
        raise SettingsError(f"k is {k}: ask for at least 1 row")
    check_text(query, "the query")
    cleaned = clean_texts(pl.Series([query]), cleaning or CleaningSettings())
    if not cleaned[0]:
        raise SettingsError("the query is empty after cleaning: give a text")
    encoder = load_table_encoder(table)
    whole_1D = encoder.encode(cleaned, side=Side.QUERY)
    query_D = truncate(whole_1D, table.encoder.dim, normalize=table.encoder.normalized)[0]
    best = _best_rows(table, query_D, k)
    return [hit for _, hit in sorted(_fetch(table, best).items())]


def load_table_encoder(table: Table) -> SentenceEncoder:
    """Load the encoder that made a table's vectors.

    Raises:
        ModelError: when it cannot be loaded.
        EncoderMismatchError: when the model of that name is no longer the same encoder.
    """
    encoder = load_encoder(
        EncoderSpec(
            model=table.encoder.model,
            max_seq_length=table.encoder.max_seq_length,
            compute_dtype=ComputeDtype(table.encoder.compute_dtype),
            normalize=table.encoder.normalized,
        )
    )
    table.check_model(encoder)
    return encoder


def _best_rows(table: Table, query_D: np.ndarray, k: int) -> list[tuple[float, str, int]]:
    """Return score, shard and row number of the best rows, best first."""
    best: list[tuple[float, str, int]] = []
    info = table.encoder
    for shard in table.shards():
        uri = table.shard_uri(shard.name)
        first = 0
        with open_shard(uri) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=vector_names(info.precision)):
                scores = vector_matrix(batch, info.dim, info.precision) @ query_D
                top = np.argpartition(-scores, k - 1)[:k] if len(scores) > k else np.arange(len(scores))
                best += [(float(scores[row]), shard.name, first + int(row)) for row in top]
                best = sorted(best, key=lambda candidate: (-candidate[0], candidate[1], candidate[2]))[:k]
                first += len(scores)
    return best


def _fetch(table: Table, best: list[tuple[float, str, int]]) -> dict[int, Hit]:
    """Read the other columns of the best rows, one row group at a time."""
    kept = list(table.kept_schema)
    hits: dict[int, Hit] = {}
    for name in {shard for _, shard, _ in best}:
        uri = table.shard_uri(name)
        ranks = [rank for rank, row_found in enumerate(best) if row_found[1] == name]
        with open_shard(uri) as parquet:
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            for rank in ranks:
                score, _, row = best[rank]
                group = int(np.searchsorted(begins, row, side="right")) - 1
                rows: pa.Table = parquet.read_row_group(group, columns=["id", "source", *kept])
                values = rows.slice(row - int(begins[group]), 1).to_pylist()[0]
                hits[rank] = Hit(
                    id=values["id"],
                    source=values["source"],
                    score=score,
                    kept={name: values[name] for name in kept},
                )
    return hits
