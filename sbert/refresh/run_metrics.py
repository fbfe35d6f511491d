"""What is remembered of each run, beside the table: one small Parquet file a run in ``_runs/``.

The one idea: a run writes its counts and a thumbnail of the table's vectors (their mean, and a few hundred of them seen
along eight fixed directions), so that trends over years are drawn from kilobytes, also for versions whose shards vacuum has
taken. Nothing reads these files to decide anything.
"""

import datetime as dt
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from sbert.refresh.refresh_report import RefreshReport
from sbert.storage.files import join, list_names, open_input, read_bytes, write_bytes
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Precision

__all__ = ["RUNS_FOLDER", "read_runs", "record_run"]

log = logging.getLogger(__name__)

RUNS_FOLDER = "_runs"
SAMPLE_SHARDS = 8
SAMPLE_ROWS = 64
"""Rows of each sampled shard."""
NUM_DIRECTIONS = 8
DIRECTIONS_SEED = 1908_10084  # arXiv number of the Sentence-BERT paper
NESTED = {"rejects_by_reason", "broken_objects", "estimate", "stage_seconds", "selection", "splits_by_reason"}
TOKEN_QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class TableSample:
    """A look at N rows of a table, the same rows again as long as their shards stay."""

    embeddings: npt.NDArray[np.float32]
    """Shape (N, dim)."""
    num_tokens: npt.NDArray[np.int32]
    """Shape (N,)."""
    truncated: npt.NDArray[np.bool_]
    """Shape (N,)."""


def record_run(report: RefreshReport, started: dt.datetime, run_id: str, **more: float | str) -> str:
    """Write what became of a run, and a sample of the table as it left it; give the file's location.

    Args:
        report: the run's report.
        started: when it began.
        run_id: its id.
        more: further numbers or words of the run, such as the engine or the seconds of a stage.
    """
    counts = report.model_dump(mode="json", exclude=NESTED)
    row: dict[str, Any] = {
        **counts,
        "run_id": run_id,
        "started": started,
        "finished": dt.datetime.now(dt.UTC),
        **{f"seconds_{stage}": seconds for stage, seconds in report.stage_seconds.model_dump().items()},
        "num_objects_broken": len(report.broken_objects),
        "rejects_by_reason": [{"reason": why, "num_rows": rows} for why, rows in report.rejects_by_reason.items()],
        **more,
    }
    if report.version is not None:
        row |= _described(sample_table(Table.open(report.table_uri, report.version)))
    uri = join(report.table_uri, RUNS_FOLDER, f"{started:%Y%m%dT%H%M%S}-{run_id}.parquet")
    frame = pl.DataFrame([row], infer_schema_length=None)
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_bytes(uri, buffer.getvalue())
    return uri


def read_runs(table_uri: str) -> pl.DataFrame:
    """Give what is remembered of all runs, oldest first; columns that a run did not have are null."""
    folder = join(table_uri, RUNS_FOLDER)
    frames = []
    for name in sorted(list_names(folder)):
        if name.endswith(".parquet"):
            try:
                frames.append(pl.read_parquet(read_bytes(join(folder, name))))
            except pl.exceptions.PolarsError as error:
                log.warning("%s/%s cannot be read and is passed over: %s", folder, name, error)
    return pl.concat(frames, how="diagonal_relaxed").sort("started") if frames else pl.DataFrame()


def sample_table(table: Table) -> TableSample:
    """Take the first rows of a few shards; shards are named by hashes, so that evenly spaced ones are a random choice."""
    shards = [shard for shard in table.shards() if shard.num_rows]
    chosen = shards[:: max(1, len(shards) // SAMPLE_SHARDS)][:SAMPLE_SHARDS]
    parts = list(_first_rows(table, [shard.name for shard in chosen]))
    if not parts:
        none = np.zeros(0)
        return TableSample(np.zeros((0, table.encoder.dim), np.float32), none.astype(np.int32), none.astype(np.bool_))
    return TableSample(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _first_rows(
    table: Table, names: list[str]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]]:
    precision = Precision(table.encoder.precision)
    columns = [*vector_names(precision), "num_tokens", "truncated"]
    for name in names:
        with open_input(table.shard_uri(name)) as file, pq.ParquetFile(file) as parquet:
            batch = next(parquet.iter_batches(SAMPLE_ROWS, columns=columns))
            yield (
                vector_matrix(batch, table.encoder.dim, precision),
                batch.column("num_tokens").to_numpy(),
                batch.column("truncated").to_numpy(zero_copy_only=False),
            )


def directions(dim: int) -> npt.NDArray[np.float32]:
    """Give the unit vectors along which samples are seen, shape (NUM_DIRECTIONS, dim); the same for ever."""
    drawn = np.random.default_rng(DIRECTIONS_SEED).standard_normal((NUM_DIRECTIONS, dim))
    unit: npt.NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _described(sample: TableSample) -> dict[str, Any]:
    if not len(sample.num_tokens):
        return {}
    quantiles = np.quantile(sample.num_tokens, TOKEN_QUANTILES)
    seen_NK = sample.embeddings @ directions(sample.embeddings.shape[1]).T
    return {
        "num_rows_sampled": len(sample.num_tokens),
        **{
            f"tokens_p{round(100 * share)}": float(value)
            for share, value in zip(TOKEN_QUANTILES, quantiles, strict=True)
        },
        "share_truncated": float(sample.truncated.mean()),
        "mean_vector": sample.embeddings.mean(axis=0).tolist(),
        "seen_along": seen_NK.T.tolist(),
    }
