"""The output of the night before, for jobs whose new output follows from it."""

from collections.abc import Collection, Generator, Sequence
from typing import Any

import pyarrow as pa

from sbert.derived.derived_table import DerivedTable, completed_settings, find_derived
from sbert.derived.job import DerivedJob, SplitInput, derived_fingerprint
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits, split_rows

__all__ = ["fingerprints_now", "output_before", "rows_before"]

ROWS_PER_READ = 16_384


def output_before(
    job: DerivedJob, table: Table, out_uri: str, *, may_differ: Collection[str] = ()
) -> DerivedTable | None:
    """Return the existing output if the same table, encoder, settings and version of the job's code made it, else None.

    Args:
        job: the job that runs now.
        table: the embeddings table.
        out_uri: the derived table.
        may_differ: names of settings that need not be equal, such as versions of other tables.
    """
    before = find_derived(out_uri)
    if before is None:
        return None
    info = before.info

    def compared(settings: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name not in may_differ}

    is_usable = (
        info.code_version == job.code_version
        and compared(completed_settings(type(job), info.settings)) == compared(job.model_dump(mode="json"))
        and info.encoder_fingerprint == table.encoder.fingerprint
        and info.table_id == table.table_id
    )
    return before if is_usable else None


def fingerprints_now(table: Table, job_fingerprint: str) -> set[str]:
    """Return the fingerprints that the splits of a version have in an output of a job."""
    num_rows = split_rows(locate_splits(table.uri, table.shards()))
    return {derived_fingerprint(name, count, job_fingerprint) for name, count in num_rows.items()}


def rows_before(
    before: DerivedTable, split: SplitInput, columns: Sequence[str]
) -> Generator[pa.RecordBatch, None, None]:
    """Read the earlier output rows of a split in order; a split that the earlier output lacks has none."""
    name = derived_fingerprint(split.fingerprint, split.num_rows, before.info.job_fingerprint)
    for shard in before.shards():
        if shard.fingerprint == name:
            with open_shard(before.shard_uri(shard.name)) as parquet:
                yield from parquet.iter_batches(batch_size=ROWS_PER_READ, columns=list(columns))
