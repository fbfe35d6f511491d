"""Colourings by the topics of an output of `sbert topics`, in place of the topics that the map finds itself."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import polars as pl

from sbert.apply.map.colourings import MAX_ENTRIES, Colouring, ColouringKind
from sbert.apply.named_topics import OUTLIER, Topic, group_name, named_topics
from sbert.apply.row_sample import RowSample
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS
from sbert.errors import TableError
from sbert.table.delta import Table

__all__ = ["derived_topics", "open_topics"]

TOPIC, GROUP = "topic", "group of topics"
OTHERS, OUTLIERS, NOT_YET = "other topics", "outliers, of no topic", "no topic yet"
WORDS_IN_NAME = 3


def open_topics(uri: str, table: Table) -> tuple[DerivedTable, tuple[Topic, ...]]:
    """Open an output of `sbert topics` for a table; return it with its topics.

    Raises:
        NotATableError, TableError: there is no output of `sbert topics`, or it is of another table.
        StorageError: storage refuses.
    """
    output = DerivedTable.open(uri)
    topics = named_topics(output)
    if output.info.table_id != table.table_id:
        raise TableError(
            f"{output.uri}: these are the topics of {output.info.table_uri}, not of {table.uri}: name the topics of this "
            "table"
        )
    return output, topics


def derived_topics(output: DerivedTable, topics: Iterable[Topic], sample: RowSample) -> list[Colouring]:
    """Return the colouring by topic and, if there are several groups, by group of topics; the largest come first.

    Args:
        output: an output of `sbert topics`, perhaps for an earlier version of the table: rows that joined or changed since
            then have no topic yet.
        topics: its topics.
        sample: the rows on the map.
    """
    rows = output.scan().select(*KEY_COLUMNS, "topic", "parent")
    sizes = dict(rows.group_by("topic").agg(pl.len()).collect(engine="streaming").iter_rows())
    keys = sample.rows.select(KEY_COLUMNS).lazy()
    topics_of_rows = keys.join(rows, on=KEY_COLUMNS, how="left", maintain_order="left").collect(engine="streaming")
    ordered = sorted(topics, key=lambda topic: (-sizes.get(topic.id, 0), topic.id))
    groups: dict[int, list[Topic]] = defaultdict(list)
    for topic in ordered:
        groups[topic.parent].append(topic)
    sizes_of_groups = {name: sum(sizes.get(topic.id, 0) for topic in members) for name, members in groups.items()}
    names = {topic.id: f"{topic.id} {', '.join(topic.words[:WORDS_IN_NAME])}".strip() for topic in ordered}
    group_names = {
        name: group_name(name, (topic.words for topic in groups[name]))
        for name in sorted(groups, key=lambda name: (-sizes_of_groups[name], name))
    }
    colourings = [_colouring(TOPIC, topics_of_rows["topic"], names)]
    return colourings if len(groups) < 2 else [*colourings, _colouring(GROUP, topics_of_rows["parent"], group_names)]


def _colouring(name: str, numbers: pl.Series, labels: dict[int, str]) -> Colouring:
    """Return the colouring of rows by number; those without an entry of their own stand in grey entries at the end."""
    there = set(numbers.drop_nulls().to_list())
    shown = {number: place for place, number in enumerate([each for each in labels if each in there][:MAX_ENTRIES])}
    codes = numbers.replace_strict(shown, default=None, return_dtype=pl.Int64)
    is_outlier = (numbers == OUTLIER).fill_null(value=False)
    rest: list[str] = []
    for label, rows in (
        (OTHERS, codes.is_null() & numbers.is_not_null() & ~is_outlier),
        (OUTLIERS, is_outlier),
        (NOT_YET, numbers.is_null()),
    ):
        if rows.any():
            codes = codes.set(rows, len(shown) + len(rest))
            rest.append(label)
    entries = (*(labels[number] for number in shown), *rest)
    return Colouring(name, ColouringKind.TOPIC, entries, len(rest), codes.to_numpy().astype(np.uint8))
