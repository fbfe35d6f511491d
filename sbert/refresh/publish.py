"""Publish the built splits: check them as a whole, check the deletion limit, commit once.

The one idea: everything before the commit only adds files that no reader sees. The commit is one atomic step against the
version that the plan was made for. It fails cleanly when another run was faster.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from sbert.errors import TruncationError
from sbert.refresh.deletion_limit import Losses, check_losses
from sbert.refresh.fingerprints import recorded_fingerprint
from sbert.refresh.job import TruncationPolicy
from sbert.refresh.plan import Plan
from sbert.refresh.table_diff import TableDiff
from sbert.refresh.table_settings import settings_record
from sbert.rows.counts import RowCounts
from sbert.storage.files import join
from sbert.table.commit import commit, mend_statistics
from sbert.table.delta import Table
from sbert.table.duplicate_keys import KeyLedger, row_keys
from sbert.table.quantization_recall import RECORD_KEY, measure, newest_reduction, remove_samples
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.split_records import SplitRecord, read_records
from sbert.vectors.checks import MIN_OWN_TEXTS, check_not_collapsed

__all__ = ["duplicate_ids_across_splits", "publish"]

log = logging.getLogger(__name__)

PROBE_SHARDS = 8
"""New shards from which vectors are taken for the check against a collapse."""
PROBE_ROWS = 64
"""Rows that are taken from each of them."""


def duplicate_ids_across_splits(plan: Plan, diff: TableDiff) -> dict[str, frozenset[str]]:
    """Find ids that several slices of one large object share; return the ids to exclude, by fingerprint of the split.

    The latest slice keeps the id. Passages are compared by the id of their document. Only the columns of
    ids of objects that were read in slices are read.
    """
    slices: dict[str, list[SplitRecord]] = defaultdict(list)
    for record in diff.add:
        if len(record.spans) == 1 and record.spans[0].start is not None:
            slices[record.spans[0].uri].append(record)
    excluded: dict[str, frozenset[str]] = {}
    for records in slices.values():
        if len(records) > 1:
            column = "document_id" if plan.job.settings.source.cuts_passages else "id"
            ordered = sorted(records, key=lambda record: record.spans[0].start or 0)
            excluded |= _duplicates_among(plan.table_uri, ordered, column)
    return excluded


def _duplicates_among(table_uri: str, records: list[SplitRecord], column: str) -> dict[str, frozenset[str]]:
    excluded: dict[str, set[str]] = defaultdict(set)
    with KeyLedger(keep="last") as ledger:
        position = 0
        for record in records:
            for ids in _ids_of(table_uri, record, column):
                ledger.add(row_keys(ids, "id"), np.arange(position, position + ids.height, dtype=np.int64))
                position += ids.height
        superseded = ledger.superseded()
    if len(superseded):
        position = 0
        for record in records:
            for ids in _ids_of(table_uri, record, column):
                low, high = np.searchsorted(superseded, [position, position + ids.height])
                excluded[record.fingerprint].update(ids["id"].gather(superseded[low:high] - position).to_list())
                position += ids.height
    return {fingerprint: frozenset(ids) for fingerprint, ids in excluded.items() if ids}


def _ids_of(table_uri: str, record: SplitRecord, column: str) -> Iterable[pl.DataFrame]:
    """Read the ids of a split, each once where its rows are together."""
    previous: str | None = None
    for shard in record.shards:
        uri = join(table_uri, shard.name)
        with open_shard(uri) as parquet:
            for batch in parquet.iter_batches(batch_size=65_536, columns=[column]):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                begins = frame[column].ne_missing(frame[column].shift(1, fill_value=previous))
                if column != "id":
                    previous = frame[column][-1]
                    frame = frame.filter(begins)
                yield frame.rename({column: "id"})


def check_before_commit(plan: Plan, diff: TableDiff) -> None:
    """Check the splits that join the table as a whole.

    Raises:
        TruncationError: under policy ``fail``, when too large a share of the rows was truncated.
        QualityError: when random pairs of new vectors are all alike.
    """
    settings = plan.job.settings
    encoding = settings.encoding
    num_rows = sum(record.counts.num_rows_written for record in diff.add)
    num_truncated = sum(record.counts.num_rows_truncated for record in diff.add)
    if encoding.truncation is TruncationPolicy.FAIL and num_truncated > encoding.max_truncated_share * num_rows:
        raise TruncationError(
            f"{num_truncated} of {num_rows} rows ({num_truncated / num_rows:.2%}) have more than "
            f"{plan.encoder.max_seq_length} tokens; the limit is {encoding.max_truncated_share:.2%} and nothing was "
            "published. Choose truncation window, reject or truncate, or raise max_truncated_share"
        )
    check_not_collapsed(
        _sample_vectors(plan, diff),
        what=plan.raw_uri,
        min_texts=MIN_OWN_TEXTS,
        max_mean_cosine=settings.quality.max_mean_cosine,
    )
    check_losses(plan.table_uri, losses_of(plan, diff), settings.deletion_limit)


def losses_of(plan: Plan, diff: TableDiff) -> Losses:
    """Return the objects that are no longer listed, and the rows that splits lost without a change of settings."""
    dropped = sum(shard.num_rows for shard in diff.drop)
    if dropped <= diff.num_rows_added:
        return plan.losses
    replaced = sum(
        record.fingerprint != recorded_fingerprint(record.spans, plan.spec.rows_fingerprint)
        for record in read_records(plan.table_uri, diff.leaving).values()
    )
    if replaced:  # rows of other settings or another encoder: the caller may have asked for fewer rows
        return plan.losses
    num_rows = sum(shard.num_rows for shard in plan.base.shards)
    lost = max(plan.losses.num_rows_lost, dropped - diff.num_rows_added)
    return plan.losses.model_copy(update={"num_rows": num_rows, "num_rows_lost": lost})


def _sample_vectors(plan: Plan, diff: TableDiff) -> np.ndarray:
    """Return up to `PROBE_ROWS` vectors of different texts from each of a few new shards."""
    shards = [shard for record in diff.add for shard in record.shards if shard.num_rows]
    step = max(1, len(shards) // PROBE_SHARDS)
    samples: dict[bytes, np.ndarray] = {}
    columns = ["text_hash", *vector_names(plan.encoder.precision)]
    for shard in shards[::step][:PROBE_SHARDS]:
        uri = join(plan.table_uri, shard.name)
        with open_shard(uri) as parquet:
            batch = next(parquet.iter_batches(batch_size=PROBE_ROWS, columns=columns))
            vectors = vector_matrix(batch, plan.encoder.dim, plan.encoder.precision)
            samples.update(zip(batch.column("text_hash").to_pylist(), vectors, strict=True))
    return np.stack(list(samples.values())) if samples else np.zeros((0, plan.encoder.dim), dtype=np.float32)


def publish(plan: Plan, diff: TableDiff, counts: RowCounts, metadata: dict[str, Any]) -> int:
    """Check the built splits, commit, and return the table's version; without a difference, return the current one.

    Raises:
        CommitConflictError: when another run committed since the plan was made.
        QualityError, TruncationError: when the new vectors must not be published, or smaller ones find too little.
        StorageError: when storage refuses.
    """
    if diff.is_empty and plan.base.version is not None and not plan.changes:
        return mend_statistics(Table.open(plan.table_uri, plan.base.version), metadata["run_id"])
    began = time.monotonic()
    check_before_commit(plan, diff)
    table = plan.open_base()
    reduction: dict[str, Any] = {}
    if plan.encoder.is_reduced:
        is_same = table is not None and table.encoder.fingerprint == plan.encoder.fingerprint
        before = newest_reduction(table) if table is not None and is_same else None
        reduction[RECORD_KEY] = measure(plan.table_uri, plan.encoder, diff.add, before).model_dump(mode="json")
    stages = {**metadata.get("stages", {}), "publish": round(time.monotonic() - began, 3)}
    version = commit(
        plan.table_uri,
        table,
        add=[*(shard for record in diff.add for shard in record.shards), *diff.moved],
        drop=diff.drop,
        encoder=plan.encoder,
        kept_schema=plan.spec.kept_schema,
        metadata={**metadata, **counts.model_dump(), **reduction, "stages": stages},
        settings=settings_record(plan.job.settings, plan.encoder, plan.spec.model_prompt),
    )
    remove_samples(plan.table_uri, diff.add)
    return version
