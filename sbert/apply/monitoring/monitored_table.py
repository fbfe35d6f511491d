"""The monitored data: the classes of a table, or the rows of a table that nobody classified."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sbert.apply.classification.head import HEADS
from sbert.apply.classification.head_kinds import AnyHead
from sbert.apply.classification.job import ClassificationJob
from sbert.apply.classification.multi_label_head import MULTI_LABEL_HEADS, MultiLabelHead
from sbert.apply.monitoring.alerts import VOLUME
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import CorrectedListShares, CorrectedShares, ShareCorrection
from sbert.derived.any_table import open_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS
from sbert.derived.paired_rows import paired_rows
from sbert.errors import EmbeddingsTableError, EncoderMismatchError, NotATableError, SettingsError, TableError
from sbert.table.delta import Table
from sbert.table.shard_layout import locate_splits, read_split

__all__ = ["MonitoredTable", "open_monitored"]


@dataclass(frozen=True)
class MonitoredTable:
    """Rows with times, of one version."""

    uri: str
    """The output of the classification, or the embeddings table."""
    table: Table
    """The embeddings table."""
    predictions: DerivedTable | None
    """The classes; None where only the volume is watched."""
    label_column: str | None
    """Their column; None without classes."""
    is_multi_label: bool
    """Whether the column holds lists of classes."""
    classes: list[str]
    shares: ShareCorrection | None
    """Corrects shares for the head's mistakes; None without classes."""
    model: str
    """Names head and encoder; empty without classes, since no model decides a volume."""

    def blocks(self, columns: list[str]) -> Iterator[pa.Table]:
        """Yield rows with `KEY_COLUMNS`, the class where there is one, and columns of the embeddings table.

        Raises:
            TableError: the rows of the classes are not those of the table.
        """
        if self.predictions is not None and self.label_column is not None:
            yield from paired_rows(self.predictions, self.table, [self.label_column], columns)
            return
        shards = locate_splits(self.table.uri, self.table.shards())
        for split in sorted({part.fingerprint for shard in shards for part in shard.splits}):
            yield from read_split(self.table.uri, shards, split, [*KEY_COLUMNS, *columns])


def open_monitored(uri: str, settings: MonitoringSettings) -> MonitoredTable:
    """Open the output of `sbert classify`; or an embeddings table, where the volume alone is watched.

    Raises:
        EmbeddingsTableError: an embeddings table, and the settings ask for classes.
        EncoderMismatchError: the table has another encoder than the classes.
        SettingsError: there is no such task, or a series is none.
        TableError: the table belongs to another job, or its head, which gives lists, is of an earlier release.
    """
    if settings.series == (VOLUME,) and isinstance(opened := open_any(uri), Table):
        if settings.task:
            raise SettingsError(
                f"{opened.uri}: this table has no classes, but task is {settings.task!r}: name the output of "
                "`sbert classify`, or leave task empty"
            )
        return MonitoredTable(opened.uri, opened, None, None, False, [], None, "")
    opened = _open_classes(uri)
    job, table = _classification_of(opened)
    head_name = next((head for head in job.heads if head.task == settings.task), None)
    if head_name is None and len(job.heads) == 1 and not settings.task:
        head_name = job.heads[0]
    if head_name is None:
        tasks = ", ".join(head.task or "(none)" for head in job.heads)
        raise SettingsError(f"{opened.uri}: there is no task {settings.task!r}: set task to one of {tasks}")
    head: AnyHead
    if head_name.is_multi_label:
        head = MULTI_LABEL_HEADS.load(job.heads_uri, head_name.fingerprint, table)
    else:
        head = HEADS.load(job.heads_uri, head_name.fingerprint, table)
    shares = _correction(head, opened.uri)
    _check_series(head.classes, settings, opened.uri)
    return MonitoredTable(
        uri=opened.uri,
        table=table,
        predictions=opened,
        label_column=f"{job.prefix(head_name)}{'labels' if head_name.is_multi_label else 'label'}",
        is_multi_label=head_name.is_multi_label,
        classes=head.classes,
        shares=shares,
        model=f"{head.record.fingerprint}|{table.encoder.fingerprint}",
    )


def _correction(head: AnyHead, where: str) -> ShareCorrection:
    """Return the correction for a head's mistakes.

    Raises:
        TableError: a head that gives lists does not say how often it is wrong.
    """
    if not isinstance(head, MultiLabelHead):
        return CorrectedShares(head.confusion)
    decisions = head.record.decisions
    if decisions is None:
        raise TableError(
            f"{where}: the head of the task {head.record.task or '(none)'} is of an earlier release, which did not keep how "
            "often each class is missed or given wrongly: fit a new head, by `sbert classify` with another head.seed"
        )
    return CorrectedListShares(np.array(decisions, np.int64))


def _open_classes(uri: str) -> DerivedTable:
    try:
        return DerivedTable.open(uri)
    except EmbeddingsTableError as error:
        raise EmbeddingsTableError(
            f"{uri}: this is an embeddings table, but monitoring counts the classes of its rows: make them with "
            f"`sbert classify {uri} LABELS CLASSES`, and name CLASSES; or watch the number of rows alone (--volume, in "
            f"settings series: [{VOLUME}])"
        ) from error


def _check_series(classes: list[str], settings: MonitoringSettings, where: str) -> None:
    unknown = sorted({*settings.series} - {*classes, VOLUME})
    if unknown:
        raise SettingsError(
            f"{where}: series names {', '.join(map(repr, unknown))}, but the series are {', '.join([*classes, VOLUME])}: "
            "name some of these"
        )


def _classification_of(predictions: DerivedTable) -> tuple[ClassificationJob, Table]:
    """Return the job that made the classes, and the version of the embeddings table that they are of."""
    info = predictions.info
    if info.job != ClassificationJob.name:
        raise TableError(
            f"{predictions.uri}: this table belongs to the job {info.job}: name the output of `sbert classify`"
        )
    newest = Table.open(info.table_uri)
    if newest.encoder.fingerprint != info.encoder_fingerprint:
        raise EncoderMismatchError(
            f"{predictions.uri}: its classes are of the encoder {info.encoder_fingerprint[:12]}, but {newest.uri} has "
            f"{newest.encoder.fingerprint[:12]} now: run `sbert classify` again first"
        )
    job = ClassificationJob.model_validate(info.settings)
    try:
        return job, Table.open(info.table_uri, info.table_version)
    except (NotATableError, TableError) as error:
        raise TableError(
            f"{predictions.uri}: the classes are of version {info.table_version} of {info.table_uri}, which cannot be read "
            f"any more ({error}): run `sbert classify` again first"
        ) from error
