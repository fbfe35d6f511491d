"""Draw the map of a table.

>>> from sbert.apply.map.run import draw_map
>>> page = draw_map(Table.open("data/table"), MapSettings())  # doctest: +SKIP
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.map.colourings import Colouring, ColouringKind, column_colouring, is_colourable
from sbert.apply.map.coordinates import CoordinatesJob
from sbert.apply.map.derived_topics import derived_topics, open_topics
from sbert.apply.map.layout import lay_out
from sbert.apply.map.page import Drawing, render_map
from sbert.apply.map.settings import LayoutSettings, MapSettings
from sbert.apply.map.topics import name_groups, topics_of
from sbert.apply.principal_components import principal_components
from sbert.apply.row_sample import RowSample, read_sample
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import ColumnError
from sbert.index.words.settings import words_text_column
from sbert.storage.files import normalize_uri, write_bytes
from sbert.table.delta import Table

__all__ = ["MapPage", "MapReport", "draw_map", "write_map"]

TOPIC = "topic"


@dataclass(frozen=True)
class MapPage:
    """A map."""

    html: str
    version: int
    """Version of the table that the map shows."""
    num_rows: int
    """Rows on the map."""
    num_table_rows: int
    topics: tuple[str, ...]
    """Names of the topics, the largest first."""


class MapReport(BaseModel):
    """Results of drawing a map; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="Version of the table that the map shows.")
    output: str = Field(description="The HTML file.")
    num_rows: int = Field(description="Rows on the map.")
    num_table_rows: int
    topics: tuple[str, ...] = Field(description="Names of the topics, the largest first.")
    coordinates: str | None = Field(description="Derived table of x and y, if one was asked for.")
    topics_uri: str | None = Field(
        description="Output of `sbert topics` that the topics are of; none for the map's own."
    )
    num_bytes: int = Field(description="Size of the file.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        drawn = f"{self.num_rows:,} of {counted(self.num_table_rows, 'row')} drawn"
        return f"Version {self.version} of the table: {drawn}, {counted(len(self.topics), 'topic')}"


def write_map(
    table_uri: str,
    output: str,
    settings: MapSettings | None = None,
    *,
    coordinates_uri: str | None = None,
    topics_uri: str | None = None,
) -> MapReport:
    """Draw the newest version of a table, and write the page.

    Args:
        table_uri: the table.
        output: HTML file to write, local or in object storage.
        settings: rows, topics, columns.
        coordinates_uri: as in `draw_map`.
        topics_uri: as in `draw_map`.

    Raises:
        ColumnError, TableError: as `draw_map`.
        StorageError: the file cannot be written.
    """
    page = draw_map(Table.open(table_uri), settings, coordinates_uri=coordinates_uri, topics_uri=topics_uri)
    target, content = normalize_uri(output), page.html.encode()
    write_bytes(target, content)
    return MapReport(
        table_uri=table_uri,
        version=page.version,
        output=target,
        num_rows=page.num_rows,
        num_table_rows=page.num_table_rows,
        topics=page.topics,
        coordinates=coordinates_uri,
        topics_uri=topics_uri,
        num_bytes=len(content),
    )


def draw_map(
    table: Table,
    settings: MapSettings | None = None,
    *,
    coordinates_uri: str | None = None,
    topics_uri: str | None = None,
) -> MapPage:
    """Return a page with the rows of a version of a table in the plane.

    Args:
        table: the version.
        settings: rows, topics, columns.
        coordinates_uri: derived table of x and y of every row, which is brought up to date first; the map shows its places.
        topics_uri: output of `sbert topics` for the table, whose topics take the place of the map's own.

    Raises:
        ColumnError: no text is kept, or a named column is not.
        TableError: the table has no rows, or `coordinates_uri` or `topics_uri` belongs to another table.
    """
    settings = settings or MapSettings()
    kept = [name for name, kind in table.kept_schema.items() if kind != pl.Binary]
    text_name = words_text_column(table, settings.text_column)
    if settings.color_by is not None and settings.color_by not in kept:
        raise ColumnError(
            f"{table.uri}: no kept column {settings.color_by!r} (kept: {', '.join(kept) or 'none'}): name one of these, or "
            "keep it with `sbert refresh --keep-columns`"
        )
    named = None if topics_uri is None else open_topics(topics_uri, table)
    layout = LayoutSettings.model_validate(settings.model_dump(include=set(LayoutSettings.model_fields)))
    if coordinates_uri is None:
        sample = read_sample(table, settings.max_rows, tuple(kept))
        places_N2 = lay_out(sample.vectors_ND, layout)
    else:
        report = derive(CoordinatesJob(layout=layout), table.uri, coordinates_uri)
        table = Table.open(table.uri, report.table_version)  # the newest version, which may be newer than the one given
        sample = read_sample(table, settings.max_rows, tuple(kept))
        places_N2 = _derived_places(coordinates_uri, report.version, sample)
    columns = [name for name in kept if name != text_name]
    by_topic = [_own_topics(sample, text_name, settings)] if named is None else derived_topics(*named, sample)
    drawing = Drawing(
        table=table,
        rows=sample.rows,
        places_N2=places_N2,
        text_name=text_name,
        columns=columns,
        colourings=[*by_topic, *_column_colourings(sample, kept, text_name, settings.color_by)],
        color_by=settings.color_by,
        max_chars=settings.max_chars,
    )
    return MapPage(
        html=render_map(drawing),
        version=table.version,
        num_rows=len(sample),
        num_table_rows=table.num_rows,
        topics=by_topic[0].labels[: len(by_topic[0].labels) - by_topic[0].num_rest],
    )


def _own_topics(sample: RowSample, text_name: str, settings: MapSettings) -> Colouring:
    """Put the rows into topics, and name the topics by their words."""
    texts = sample.rows[text_name].cast(pl.String).fill_null("").str.slice(0, settings.max_chars)
    groups_N = topics_of(principal_components(sample.vectors_ND), settings.num_topics, settings.seed)
    return Colouring(TOPIC, ColouringKind.TOPIC, tuple(name_groups(texts, groups_N)), 0, groups_N.astype(np.uint8))


def _column_colourings(sample: RowSample, kept: list[str], text_name: str, color_by: str | None) -> list[Colouring]:
    """Return a colouring for the column that was asked for, and for each column whose values can be shown as colours.

    The column that is shown as the text gives colours only where it was asked for.
    """
    return [
        column_colouring(name, sample.rows[name])
        for name in kept
        if name == color_by or (name != text_name and is_colourable(sample.rows[name]))
    ]


def _derived_places(uri: str, version: int, sample: RowSample) -> npt.NDArray[np.float32]:
    """Return the places that a derived table has for the rows of a sample, shape (N, 2)."""
    derived = DerivedTable.open(uri, version).scan().select("source", "id", "x", "y").collect()
    placed = sample.rows.select("source", "id").join(derived, on=["source", "id"], how="left", maintain_order="left")
    return placed.select("x", "y").to_numpy().astype(np.float32)
