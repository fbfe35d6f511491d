"""The cells as a derived table: a row for each topic, bucket and series, in parts that are named after their content.

A part holds the cells of a topic in a calendar year. A run writes the parts that changed, and publishes all in one commit.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.ipc

from sbert.apply.monitoring.alerts import VOLUME, TopicHistory
from sbert.apply.monitoring.monitored_table import MonitoredTable
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import ShareCorrection
from sbert.derived.derived_table import (
    DerivedInfo,
    PartsSummary,
    commit_derived,
    digest_of_parts,
    find_output,
)
from sbert.table.followers import Follower, note_follower
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter

__all__ = ["CELL_SCHEMA", "JOB", "publish_cells"]

JOB = "monitoring"
CODE_VERSION = 1
CELL_SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string()),
        pa.field("bucket", pa.timestamp("us", "UTC")),
        pa.field("series", pa.string()),
        pa.field("count", pa.int64()),
        pa.field("num_rows", pa.int64()),
        pa.field("share", pa.float64()),
        pa.field("share_low", pa.float64()),
        pa.field("share_high", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("level", pa.float64()),
        pa.field("is_alert", pa.bool_()),
    ]
)
"""`count` rows of `num_rows` were named this class. `share` is corrected for the head's mistakes, with its interval.
`expected` is of the share that was named, or of the rows for the series `volume`, whose shares are empty.
An alert opens at a `p_value` of `level` or below, which is empty for series whose rises are no alerts."""


def publish_cells(
    out_uri: str,
    histories: Sequence[TopicHistory],
    monitored: MonitoredTable,
    settings: MonitoringSettings,
    run_id: str,
) -> int:
    """Write the parts that are not there, and commit; return the version, which stays when nothing changed.

    The output is noted beside the embeddings table, so that `sbert inspect` shows it among the consumers.

    Args:
        out_uri: the output.
        histories: the cells of each topic.
        monitored: the data that they were counted from.
        settings: the settings that they were counted with.
        run_id: the run, which the commit names.

    Raises:
        TableError: the folder holds the output of another job.
        CommitConflictError: another run committed at the same time.
    """
    table = monitored.table
    before = find_output(out_uri, JOB)
    have = {} if before is None else {shard.fingerprint: shard for shard in before.shards()}
    parts: dict[str, int] = {}
    records: list[ShardRecord] = []
    for history in histories:
        for cells in _parts(history, monitored.shares):
            name = _fingerprint(cells)
            parts[name] = len(cells)
            if name not in have:
                with ShardWriter(out_uri, name, CELL_SCHEMA, ShardSettings()) as writer:
                    writer.write(cells)
                    records += writer.close()
    info = DerivedInfo(
        job=JOB,
        job_fingerprint=hashlib.sha256(f"{CODE_VERSION}|{settings.model_dump_json()}".encode()).hexdigest(),
        settings=settings.model_dump(mode="json"),
        table_uri=table.uri,
        table_id=table.table_id,
        table_version=table.version,
        encoder=table.encoder.model,
        encoder_fingerprint=table.encoder.fingerprint,
        parts=PartsSummary(num_parts=len(parts), digest=digest_of_parts(parts.items())),
        run_id=run_id,
    )
    drop = [shard for name, shard in have.items() if name not in parts]
    counts = {"num_shards_built": len(records), "num_rows_built": sum(record.num_rows for record in records)}
    if before is None or records or drop or not _is_record_of(before.info, info):
        version = commit_derived(out_uri, before, schema=CELL_SCHEMA, add=records, drop=drop, info=info, counts=counts)
    else:
        version = before.version
    note_follower(
        table.uri,
        Follower(
            name=out_uri,
            kind=JOB,
            version=table.version,
            num_rows=sum(parts.values()),
            has_own_rows=True,
            followed_at=dt.datetime.now(dt.UTC),
        ),
    )
    return version


def _is_record_of(before: DerivedInfo, now: DerivedInfo) -> bool:
    """Return whether a record says what `now` would say. The fingerprint follows from the settings and the code.

    The content of the cells names them, so other code that makes the same cells changes nothing either.
    """
    return before.model_copy(update={"job_fingerprint": now.job_fingerprint}).is_record_of(now, MonitoringSettings)


def _parts(history: TopicHistory, shares: ShareCorrection | None) -> Iterator[pa.Table]:
    """Yield the cells of a topic, a calendar year at a time."""
    places = range(len(history.buckets))
    for _, group in groupby(places, key=lambda at: history.buckets[at].year):
        rows = [row for at in group for row in _rows(history, at, shares)]
        yield pa.Table.from_pylist(rows, CELL_SCHEMA)


def _rows(history: TopicHistory, at: int, shares: ShareCorrection | None) -> Iterator[dict[str, object]]:
    total = int(history.counts_BS[at, -1])
    value, low, high = shares.estimate(history.counts_BS[at, :-1], total) if total and shares else (None, None, None)
    for place, series in enumerate(history.series):
        expected = history.expected[series][at]
        has_share = series != VOLUME and value is not None and low is not None and high is not None
        yield {
            "topic": history.topic,
            "bucket": history.buckets[at],
            "series": series,
            "count": int(history.counts_BS[at, place]),
            "num_rows": total,
            "share": float(value[place]) if has_share and value is not None else None,
            "share_low": float(low[place]) if has_share and low is not None else None,
            "share_high": float(high[place]) if has_share and high is not None else None,
            "expected": None if expected is None else expected.value,
            "p_value": None if expected is None else expected.p_value,
            "level": history.levels[series],
            "is_alert": history.is_open[series][at],
        }


def _fingerprint(cells: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, cells.schema) as writer:
        writer.write_table(cells.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:32]
