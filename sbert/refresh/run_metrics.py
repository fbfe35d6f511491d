"""The record of each run, beside the table: one small Parquet file per run in ``_runs/``.

A run writes its counts and a summary of the table's vectors: their mean, and a few hundred of them projected on eight
fixed directions. So trends over years are drawn from kilobytes, also for versions whose shards were vacuumed. The
vectors are those of a sample of texts that does not depend on files (`sbert.table.drift_sample`). Nothing reads these
files to decide anything.
"""

import datetime as dt
import io
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.errors import MissingError, SbertError
from sbert.refresh.refresh_report import RefreshReport
from sbert.storage.files import join, list_names, read_bytes, write_bytes
from sbert.table.delta import Table
from sbert.table.drift_sample import DriftSample, sample_rows
from sbert.table.followers import followers_of
from sbert.vectors.unit import unit_rows

__all__ = ["RUNS_FOLDER", "SAMPLE_BY_HASH", "read_runs", "record_run"]

log = logging.getLogger(__name__)

RUNS_FOLDER = "_runs"
SAMPLE_NAME = "latest-sample.arrow"
"""The newest sample, in full: the next run reads only the rows that it lacks."""
SAMPLE_BY_HASH = "text_hash"
"""The way a run drew its sample. Earlier versions took the first rows of some shards; such runs are not compared."""
NUM_DIRECTIONS = 8
DIRECTIONS_SEED = 1908_10084  # arXiv number of the Sentence-BERT paper
NESTED = {
    "broken_objects",
    "changes",
    "columns_lost",
    "estimate",
    "formats",
    "misfits_by_column",
    "rejects_by_reason",
    "selection",
    "splits_by_reason",
    "stage_seconds",
}
FOLLOWER_FIELDS: dict[str, Any] = {
    "name": pl.String, "kind": pl.String, "version": pl.Int64, "num_rows": pl.Int64, "lag_versions": pl.Int64,
    "lag_minutes": pl.Float64, "age_minutes": pl.Float64, "coverage": pl.Float64,
}  # fmt: skip
FOLLOWERS = pl.List(pl.Struct(FOLLOWER_FIELDS))
TOKEN_QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


def record_run(report: RefreshReport, started: dt.datetime, run_id: str, **more: float | str) -> str:
    """Write the outcome of a run, and a summary of the table as it left it; return the file's location.

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
        "misfits_by_column": [{"column": name, "num_rows": rows} for name, rows in report.misfits_by_column.items()],
        "changes": "; ".join(change.describe() for change in report.changes),
        **more,
    }
    if report.version is not None:
        row |= {"followers": _followers(report.table_uri)}
        row |= _summary_of_table(report.table_uri, report.version)
    uri = join(report.table_uri, RUNS_FOLDER, f"{started:%Y%m%dT%H%M%S}-{run_id}.parquet")
    frame = pl.DataFrame([row], infer_schema_length=None, schema_overrides={"followers": FOLLOWERS})
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_bytes(uri, buffer.getvalue())
    return uri


def read_runs(table_uri: str) -> pl.DataFrame:
    """Return the records of all runs, oldest first; columns that a run did not have are null."""
    folder = join(table_uri, RUNS_FOLDER)
    frames = []
    for name in sorted(list_names(folder)):
        if name.endswith(".parquet"):
            try:
                frames.append(pl.read_parquet(read_bytes(join(folder, name))))
            except pl.exceptions.PolarsError as error:
                log.warning("%s/%s cannot be read and is passed over: %s", folder, name, error)
    return pl.concat(frames, how="diagonal_relaxed").sort("started") if frames else pl.DataFrame()


def directions(dim: int) -> npt.NDArray[np.float32]:
    """Return the unit vectors on which samples are projected, shape (NUM_DIRECTIONS, dim); they never change."""
    drawn = np.random.default_rng(DIRECTIONS_SEED).standard_normal((NUM_DIRECTIONS, dim))
    return unit_rows(drawn).astype(np.float32)


def _summary_of_table(table_uri: str, version: int) -> dict[str, Any]:
    """Sample a version and summarize the sample; a table that cannot be read costs the summary, not the run."""
    sample_uri = join(table_uri, RUNS_FOLDER, SAMPLE_NAME)
    try:
        table = Table.open(table_uri, version)
        earlier = _read_sample(sample_uri)
        sample = sample_rows(table, earlier)
        if sample is not earlier:
            write_bytes(sample_uri, sample.to_bytes())
    except SbertError as error:
        log.warning("%s: the run is recorded without a sample of the table: %s", table_uri, error)
        return {}
    return {"max_seq_length": table.encoder.max_seq_length, **summarize(sample)}


def _followers(table_uri: str) -> list[dict[str, Any]]:
    """Return how far the consumers of the table are, as they were when the run ended."""
    try:
        states = followers_of(Table.open(table_uri))
    except SbertError as error:
        log.warning("%s: the run is recorded without the consumers of the table: %s", table_uri, error)
        return []
    return [state.model_dump(include=set(FOLLOWER_FIELDS)) for state in states]


def _read_sample(uri: str) -> DriftSample | None:
    try:
        return DriftSample.from_bytes(read_bytes(uri))
    except MissingError:
        return None


def summarize(sample: DriftSample) -> dict[str, Any]:
    """Return the summary of a sample in a run's record: quantiles of the lengths, mean vector, projections."""
    if not len(sample):
        return {}
    quantiles = np.quantile(sample.num_tokens, TOKEN_QUANTILES)
    projected_NK = sample.embeddings @ directions(sample.embeddings.shape[1]).T
    return {
        "sampled_by": SAMPLE_BY_HASH,
        "num_rows_sampled": len(sample),
        **{
            f"tokens_p{round(100 * share)}": float(value)
            for share, value in zip(TOKEN_QUANTILES, quantiles, strict=True)
        },
        "share_truncated": float(sample.truncated.mean()),
        "mean_vector": sample.embeddings.mean(axis=0).tolist(),
        "seen_along": projected_NK.T.tolist(),
    }
