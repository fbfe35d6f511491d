"""Bring the topics of a table up to date: fit them if need be, assign the rows, notice new topics, report.

>>> from sbert.apply.topics.run import find_topics
>>> report = find_topics("data/table", "data/topics")  # doctest: +SKIP

The topics stay as they are from night to night, so only rows that changed are assigned. They are fitted anew for another
encoder, for other settings, on request, or when too many rows are outliers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.apply.named_topics import OUTLIER
from sbert.apply.row_sample import RowSample, read_sample
from sbert.apply.times import check_times
from sbert.apply.topics.fit import Before, FitRows, extended, fit_topics, new_groups
from sbert.apply.topics.job import TopicsJob, load_topics
from sbert.apply.topics.model import TopicModel
from sbert.apply.topics.page import topics_page
from sbert.apply.topics.report import FIRST_RUN, TopicsReport
from sbert.apply.topics.report_figures import count_outliers, counts_over_time, summaries
from sbert.apply.topics.settings import TopicSettings
from sbert.derived.derived_table import DerivedTable, find_derived, find_output
from sbert.derived.run import DerivedReport, derive
from sbert.index.words.settings import words_text_column
from sbert.storage.files import join, normalize_uri, write_bytes
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names

__all__ = ["find_topics"]

log = logging.getLogger(__name__)

REPORT_NAME = "topics.html"
MAX_OUTLIERS = 5_000
"""Outliers among which new topics are looked for: those with the smallest text hashes."""

Derive = Callable[[TopicsJob, str, str], DerivedReport]


@dataclass(frozen=True)
class _Plan:
    """The topics to use, and the reason that they were fitted."""

    model: TopicModel
    before: TopicModel | None
    reason: str


def find_topics(
    table_uri: str, out_uri: str, settings: TopicSettings | None = None, *, run_job: Derive = derive
) -> TopicsReport:
    """Write the topic of every row of a table to the derived table at `out_uri`.

    Args:
        table_uri: the embeddings table, which keeps its text.
        out_uri: the derived table; made if it is not there.
        settings: what decides the topics, and what is reported.
        run_job: brings the output up to date; by default in this process.

    Raises:
        ColumnError: the text or the time is not a kept column.
        NotATableError, SettingsError, TableError: as `derive`; the output is as it was.
    """
    settings = settings or TopicSettings()
    out_uri = normalize_uri(out_uri)
    table = Table.open(table_uri)
    text_name = words_text_column(table, settings.text_column)
    if settings.time_column is not None:
        check_times(table, settings.time_column)
    find_output(out_uri, TopicsJob.name)
    plan = _planned(table, text_name, out_uri, settings)
    model, reason = plan.model, plan.reason
    output = _assign(model, table, out_uri, run_job)
    if not reason:
        grown = _with_new_topics(model, table, text_name, output, settings)
        if grown is not None:
            model = grown
            output = _assign(model, table, out_uri, run_job)
        share = count_outliers(output) / max(output.num_rows, 1)
        if share > settings.refit_share:
            reason = f"{share:.1%} of the rows are outliers, above {settings.refit_share:.1%}"
            model = _fitted(table, text_name, out_uri, model, settings)
            output = _assign(model, table, out_uri, run_job)
    log.info("%d topics%s", len(model.record.topics), f", fitted: {reason}" if reason else "")
    return _reported(table, text_name, output, plan.before, model, reason, settings)


def _planned(table: Table, text_name: str, out_uri: str, settings: TopicSettings) -> _Plan:
    before = _model_before(out_uri)
    if before is None:
        return _Plan(model=_fitted(table, text_name, out_uri, None, settings), before=None, reason=FIRST_RUN)
    reason = ""
    if before.record.encoder_fingerprint != table.encoder.fingerprint:
        reason = "another encoder"
    elif before.record.settings != settings.fit:
        reason = "other settings"
    elif settings.refit:
        reason = "asked for"
    model = _fitted(table, text_name, out_uri, before, settings) if reason else before
    return _Plan(model=model, before=before, reason=reason)


def _model_before(out_uri: str) -> TopicModel | None:
    output = find_derived(out_uri)
    if output is None or output.info.job != TopicsJob.name:
        return None  # another job's output is refused when the job is planned
    job = TopicsJob.model_validate(output.info.settings)
    return load_topics(job.model_copy(update={"topics_uri": out_uri}))


def _fitted(
    table: Table, text_name: str, out_uri: str, before: TopicModel | None, settings: TopicSettings
) -> TopicModel:
    """Fit topics to a sample; ids before go on."""
    sample = read_sample(table, settings.fit.max_rows, (text_name,))
    earlier_topics = None if before is None else _topics_before(sample, out_uri, before)
    rows = FitRows(sample.rows[text_name].cast(pl.String).fill_null(""), sample.vectors_ND)
    return fit_topics(rows, settings.fit, table.encoder.fingerprint, earlier_topics)


def _topics_before(sample: RowSample, out_uri: str, before: TopicModel) -> Before:
    """Return the topics that the output has for the rows of a sample."""
    output = DerivedTable.open(out_uri).scan().select("source", "id", "topic", "parent").collect()
    joined = sample.rows.select("source", "id").join(output, on=["source", "id"], how="left", maintain_order="left")
    topics, parents = (joined[name].fill_null(OUTLIER).to_numpy().astype(np.int64) for name in ("topic", "parent"))
    return Before(topics, parents, before.record.next_topic, before.record.next_parent)


def _assign(model: TopicModel, table: Table, out_uri: str, run_job: Derive) -> DerivedReport:
    model.save(out_uri)
    return run_job(TopicsJob(topics=model.fingerprint, topics_uri=out_uri), table.uri, out_uri)


def _with_new_topics(
    model: TopicModel, table: Table, text_name: str, output: DerivedReport, settings: TopicSettings
) -> TopicModel | None:
    """Return the topics with the new topics of the outliers; None when there are none."""
    hashes = (
        DerivedTable.open(output.out_uri, output.version)
        .scan()
        .filter(pl.col("topic") == OUTLIER)
        .select(pl.col("text_hash").unique().bottom_k(MAX_OUTLIERS))
        .collect()["text_hash"]
    )
    if len(hashes) < settings.min_new_rows:
        return None
    version = Table.open(table.uri, output.table_version)
    rows = _rows_with(version, text_name, hashes)
    groups = new_groups(model, rows, settings.min_new_rows)
    if not groups:
        return None
    others = read_sample(version, MAX_OUTLIERS, (text_name,), with_vectors=False).rows[text_name]
    return extended(model, rows, groups, others.cast(pl.String).fill_null(""))


def _rows_with(table: Table, text_name: str, hashes: pl.Series) -> FitRows:
    """Read one row of each text."""
    wanted = hashes.to_arrow().cast(pa.binary())
    info = table.encoder
    frames, vectors = [], []
    for shard in table.shards():
        if not shard.num_rows:
            continue
        with open_shard(table.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(columns=["text_hash", text_name, *vector_names(info.precision)]):
                column = batch.column("text_hash").cast(pa.binary())
                members = batch.filter(pa.compute.is_in(column, value_set=wanted))
                frames.append(
                    pl.DataFrame(
                        {
                            "text_hash": pl.Series(members.column("text_hash"), dtype=pl.Binary),
                            "text": pl.Series(members.column(text_name)).cast(pl.String).fill_null(""),
                        }
                    )
                )
                vectors.append(vector_matrix(members, info.dim, info.precision))
    rows = pl.concat(frames).with_row_index("at").sort("text_hash", "at").unique("text_hash", keep="first")
    rows = rows.sort("text_hash")
    return FitRows(rows["text"], np.concatenate(vectors)[rows["at"].to_numpy()])


def _reported(
    table: Table, text_name: str, output: DerivedReport, before: TopicModel | None, model: TopicModel, reason: str,
    settings: TopicSettings,
) -> TopicsReport:  # fmt: skip
    old = set() if before is None else {topic.id for topic in before.record.topics}
    now = {topic.id for topic in model.record.topics}
    derived = DerivedTable.open(output.out_uri, output.version)
    version = Table.open(table.uri, output.table_version)
    over_time, num_without_time = counts_over_time(derived, version, settings.time_column, settings.period)
    report = TopicsReport(
        **output.model_dump(),
        num_topics=len(now),
        num_outliers=count_outliers(output),
        refitted=reason,
        new_topics=tuple(sorted(now - old)) if before is not None else (),
        ended_topics=tuple(sorted(old - now)),
        topics=summaries(derived, version, model, text_name),
        over_time=over_time,
        period=settings.period,
        num_without_time=num_without_time,
        report_uri=join(output.out_uri, "_reports", REPORT_NAME),
    )
    write_bytes(report.report_uri, topics_page(report).encode())
    return report
