"""Draw the map of a table as one HTML file.

>>> from sbert.apply.map.page import draw_map
>>> page = draw_map(Table.open("data/table"), MapSettings())  # doctest: +SKIP

The page holds its script, its styles and its data. Its content policy allows that one script by its hash and nothing else,
no connection either. Texts are in the packed data (`sbert.apply.map.packing`), and the script puts them on the page as text.
"""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.map.colourings import Colouring, ColouringKind, column_colouring, is_colourable
from sbert.apply.map.coordinates import CoordinatesJob
from sbert.apply.map.layout import lay_out
from sbert.apply.map.packing import pack, text_column
from sbert.apply.map.settings import LayoutSettings, MapSettings
from sbert.apply.map.topics import name_groups, topics_of
from sbert.apply.principal_components import principal_components
from sbert.apply.row_sample import RowSample, read_sample
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import ColumnError
from sbert.index.words.settings import words_text_column
from sbert.pages.templates import page_template
from sbert.storage.files import normalize_uri, write_bytes
from sbert.table.delta import Table

__all__ = ["MapPage", "MapReport", "draw_map", "write_map"]

TOPIC = "topic"
STEPS = 65_535
"""Places are whole numbers from 0 to this."""


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
    """What is on a map that was written; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    version: int = Field(description="Version of the table that the map shows.")
    output: str = Field(description="The HTML file.")
    num_rows: int = Field(description="Rows on the map.")
    num_table_rows: int
    topics: tuple[str, ...] = Field(description="Names of the topics, the largest first.")
    coordinates: str | None = Field(description="Derived table of x and y, if one was asked for.")
    num_bytes: int = Field(description="Size of the file.")


def write_map(
    table_uri: str, output: str, settings: MapSettings | None = None, *, coordinates_uri: str | None = None
) -> MapReport:
    """Draw the newest version of a table, and write the page.

    Args:
        table_uri: the table.
        output: HTML file to write, local or in object storage.
        settings: rows, topics, columns.
        coordinates_uri: as in `draw_map`.

    Raises:
        ColumnError, TableError: as `draw_map`.
        StorageError: the file cannot be written.
    """
    page = draw_map(Table.open(table_uri), settings, coordinates_uri=coordinates_uri)
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
        num_bytes=len(content),
    )


def draw_map(table: Table, settings: MapSettings | None = None, *, coordinates_uri: str | None = None) -> MapPage:
    """Return a page with the rows of a version of a table in the plane.

    Args:
        table: the version.
        settings: rows, topics, columns.
        coordinates_uri: derived table of x and y of every row, which is brought up to date first; the map shows its places.

    Raises:
        ColumnError: no text is kept, or a named column is not.
        TableError: the table has no rows, or `coordinates_uri` belongs to another table.
    """
    chosen = settings or MapSettings()
    layout = LayoutSettings.model_validate(chosen.model_dump(include=set(LayoutSettings.model_fields)))
    kept = [name for name, kind in table.kept_schema.items() if kind != pl.Binary]
    text_name = words_text_column(table, chosen.text_column)
    if chosen.color_by is not None and chosen.color_by not in kept:
        raise ColumnError(
            f"{table.uri}: no kept column {chosen.color_by!r} (kept: {', '.join(kept) or 'none'}): name one of these, or "
            "keep it with `sbert refresh --keep-columns`"
        )
    if coordinates_uri is not None:
        report = derive(CoordinatesJob(layout=layout), table.uri, coordinates_uri)
        table = Table.open(table.uri, report.table_version)  # the newest version, which may be newer than the one given
    sample = read_sample(table, chosen.max_rows, tuple(kept))
    if coordinates_uri is None:
        places_N2 = lay_out(sample.vectors_ND, layout)
    else:
        places_N2 = _derived_places(coordinates_uri, report.version, sample)
    texts = sample.rows[text_name].cast(pl.String).fill_null("").str.slice(0, chosen.max_chars)
    groups_N = topics_of(principal_components(sample.vectors_ND), chosen.num_topics, chosen.seed)
    topics = name_groups(texts, groups_N)
    columns = [name for name in kept if name != text_name]
    colourings = [Colouring(TOPIC, ColouringKind.TOPIC, tuple(topics), 0, groups_N.astype(np.uint8))]
    colourings += [
        column_colouring(name, sample.rows[name])
        for name in columns
        if name == chosen.color_by or is_colourable(sample.rows[name])
    ]
    shown = [text_name, *columns, "id", "source"]
    facts = {
        "title": _short_name(table.uri),
        "rows": len(sample),
        "table_rows": table.num_rows,
        "version": table.version,
        "encoder": table.encoder.model,
        "text": text_name,
        "columns": shown,
        "colourings": [
            {"name": item.name, "kind": item.kind.value, "labels": item.labels, "rest": item.num_rest}
            for item in colourings
        ],
        "colouring": next(
            (number for number, item in enumerate(colourings) if number and item.name == chosen.color_by), 0
        ),
    }
    low, high = places_N2.min(axis=0), places_N2.max(axis=0)
    extent = max(float((high - low).max()), 1e-9)
    steps_N2 = np.rint((places_N2 - (low + high) / 2) / extent * STEPS + STEPS / 2).clip(0, STEPS).astype(np.uint16)
    packed = pack(
        facts,
        {
            "x": steps_N2[:, 0],
            "y": steps_N2[:, 1],
            **{f"c{number}": item.codes_N for number, item in enumerate(colourings)},
        },
        {f"t{number}": text_column(sample.rows[name], chosen.max_chars) for number, name in enumerate(shown)},
    )
    return MapPage(
        html=_render(str(facts["title"]), packed),
        version=table.version,
        num_rows=len(sample),
        num_table_rows=table.num_rows,
        topics=tuple(topics),
    )


def _derived_places(uri: str, version: int, sample: RowSample) -> npt.NDArray[np.float32]:
    """Return the places that a derived table has for the rows of a sample, shape (N, 2)."""
    derived = DerivedTable.open(uri, version).scan().select("source", "id", "x", "y").collect()
    found = sample.rows.select("source", "id").join(derived, on=["source", "id"], how="left", maintain_order="left")
    return found.select("x", "y").to_numpy().astype(np.float32)


def _short_name(uri: str) -> str:
    """Return the last two parts of a location."""
    return "/".join([part for part in uri.split("/") if part][-2:])


def _render(title: str, packed: str) -> str:
    folder = resources.files(__package__)
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = page_template(__package__, "page.html.j2")
    return template.render(title=title, script=script, style=style, script_hash=digest, packed=packed)
