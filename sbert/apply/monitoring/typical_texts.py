"""The texts behind an alert: most typical first, texts that say the same counted once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.apply.monitoring.alerts import VOLUME, Alert
from sbert.apply.monitoring.cells import with_cells
from sbert.apply.monitoring.monitored_table import MonitoredTable
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.derived.job import row_vectors
from sbert.errors import ColumnError
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table
from sbert.table.shards import vector_names
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["TypicalText", "texts_of_alerts"]

SAME_COSINE = 0.95
"""Cosine above which two texts say the same."""
MAX_ROWS = 2_000
"""Most rows of an alert that are read. If there are more, the rows with the smallest text hashes are a random sample."""


@dataclass(frozen=True)
class TypicalText:
    """A text of an alert, and the rows that say the same."""

    text: str
    count: int


@dataclass
class _Rows:
    """The rows of one alert."""

    texts: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    vectors: list[Float32] = field(default_factory=list)


def texts_of_alerts(
    alerts: Sequence[Alert], monitored: MonitoredTable, settings: MonitoringSettings
) -> list[list[TypicalText]]:
    """Return the typical texts of each alert, from the rows of its most surprising bucket.

    Nothing is returned where the table keeps no text.

    Raises:
        ColumnError: the table does not keep the text column that the settings name.
    """
    table = monitored.table
    text_column = _text_column(table, settings)
    if not alerts or not settings.num_texts or text_column is None:
        return [[] for _ in alerts]
    wanted: dict[tuple[str, object], list[int]] = defaultdict(list)
    for number, alert in enumerate(alerts):
        wanted[alert.topic, alert.peak].append(number)
    rows_of_alerts = [_Rows() for _ in alerts]
    columns = dict.fromkeys(
        [settings.time_column, *([settings.topic_column] if settings.topic_column else []), text_column,
         *vector_names(table.encoder.precision)]
    )  # fmt: skip
    cells = pl.DataFrame(
        {"topic": [topic for topic, _ in wanted], "bucket": [bucket for _, bucket in wanted]},
        schema={"topic": pl.String, "bucket": pl.Datetime("ms", settings.time_zone)},
    )
    for block in monitored.blocks(list(columns)):
        _collect(block, wanted, cells, alerts, rows_of_alerts, monitored, text_column, settings)
    return [_typical(rows, settings.num_texts) for rows in rows_of_alerts]


def _text_column(table: Table, settings: MonitoringSettings) -> str | None:
    try:
        return words_text_column(table, settings.text_column)
    except ColumnError:
        if settings.text_column is not None:
            raise
        return None


def _collect(
    block: pa.Table,
    wanted: dict[tuple[str, object], list[int]],
    cells: pl.DataFrame,
    alerts: Sequence[Alert],
    rows_of_alerts: list[_Rows],
    monitored: MonitoredTable,
    text_column: str,
    settings: MonitoringSettings,
) -> None:
    labels = [] if monitored.label_column is None else [monitored.label_column]
    names = list(dict.fromkeys([settings.time_column, *labels, text_column, "text_hash",
                                *([settings.topic_column] if settings.topic_column else [])]))  # fmt: skip
    frame = pl.from_arrow(block.select(names))
    assert isinstance(frame, pl.DataFrame)
    placed = with_cells(frame, settings).with_row_index("row").join(cells, on=["topic", "bucket"], how="semi")
    if placed.is_empty():
        return
    vectors_ND = row_vectors(block.take(pa.array(placed["row"])), monitored.table)
    for at, row in enumerate(placed.select("topic", "bucket", text_column, "text_hash", *labels).iter_rows()):
        topic, bucket, text, text_hash, *label = row
        series = {VOLUME, *(label[0] if monitored.is_multi_label else label)}
        for number in wanted[topic, bucket]:
            if alerts[number].series in series and text is not None:
                rows_of_alerts[number].texts.append(text)
                rows_of_alerts[number].hashes.append(text_hash)
                rows_of_alerts[number].vectors.append(vectors_ND[at])


def _typical(rows: _Rows, num_texts: int) -> list[TypicalText]:
    """Return the rows nearest to the mean, without repetitions of a nearer row."""
    if not rows.texts:
        return []
    sampled = np.argsort(np.array(rows.hashes, dtype="S16"), kind="stable")[:MAX_ROWS]
    unit_ND = unit_rows(np.stack([rows.vectors[at] for at in sampled]))
    order = np.argsort(-(unit_ND @ unit_ND.mean(axis=0)), kind="stable")
    is_told = np.zeros(len(order), np.bool_)
    typical: list[TypicalText] = []
    for at in order.tolist():
        if is_told[at]:
            continue
        equal_N = np.array([rows.texts[other] == rows.texts[sampled[at]] for other in sampled])
        same_N = (equal_N | (unit_ND @ unit_ND[at] >= SAME_COSINE)) & ~is_told
        same_N[at] = True
        is_told |= same_N
        typical.append(TypicalText(rows.texts[sampled[at]], int(same_N.sum())))
        if len(typical) == num_texts:
            break
    return typical
