"""Render a map as one HTML page.

The page holds its script, its styles and its data. Its content policy allows this script by its hash. It allows no other
script and no connection. Texts are in the packed data (`sbert.apply.map.page_data`). The script puts them on the page as
text.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.map.colourings import Colouring, ColouringKind
from sbert.apply.map.page_data import pack, text_column
from sbert.pages.templates import page_template
from sbert.table.delta import Table

__all__ = ["Drawing", "render_map"]

STEPS = 65_535
"""Places are whole numbers from 0 to this."""


@dataclass(frozen=True)
class Drawing:
    """Everything that a map shows: N rows, their places, and the ways to colour them."""

    table: Table
    rows: pl.DataFrame
    places_N2: npt.NDArray[np.float32]
    text_name: str
    columns: Sequence[str]
    """Kept columns beside the text."""
    colourings: Sequence[Colouring]
    """Those by topic come first."""
    color_by: str | None
    """Column whose colours the page shows at first; None for the topics."""
    max_chars: int
    """Characters of a text that are shown."""


def render_map(drawing: Drawing) -> str:
    """Return the page of a map."""
    shown = [drawing.text_name, *drawing.columns, "id", "source"]
    steps_N2 = _whole_steps(drawing.places_N2)
    packed = pack(
        _header(drawing, shown),
        {
            "x": steps_N2[:, 0],
            "y": steps_N2[:, 1],
            **{f"c{number}": item.codes_N for number, item in enumerate(drawing.colourings)},
        },
        {f"t{number}": text_column(drawing.rows[name], drawing.max_chars) for number, name in enumerate(shown)},
    )
    return _page(_short_name(drawing.table.uri), packed)


def _header(drawing: Drawing, shown: Sequence[str]) -> dict[str, Any]:
    """Return the data of the page's script beside the rows."""
    table = drawing.table
    return {
        "title": _short_name(table.uri),
        "rows": len(drawing.rows),
        "table_rows": table.num_rows,
        "version": table.version,
        "encoder": table.encoder.model,
        "text": drawing.text_name,
        "columns": shown,
        "colourings": [
            {"name": item.name, "kind": item.kind.value, "labels": item.labels, "rest": item.num_rest}
            for item in drawing.colourings
        ],
        "colouring": next(
            (
                number
                for number, item in enumerate(drawing.colourings)
                if item.kind is not ColouringKind.TOPIC and item.name == drawing.color_by
            ),
            0,
        ),
    }


def _whole_steps(places_N2: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return places as whole numbers from 0 to `STEPS`, centred and of one scale in both directions, shape (N, 2)."""
    low, high = places_N2.min(axis=0), places_N2.max(axis=0)
    extent = max(float((high - low).max()), 1e-9)
    steps_N2: npt.NDArray[np.uint16] = (
        np.rint((places_N2 - (low + high) / 2) / extent * STEPS + STEPS / 2).clip(0, STEPS).astype(np.uint16)
    )
    return steps_N2


def _short_name(uri: str) -> str:
    """Return the last two parts of a location."""
    return "/".join([part for part in uri.split("/") if part][-2:])


def _page(title: str, packed: str) -> str:
    folder = resources.files(__package__)
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = page_template(__package__, "page.html.j2")
    return template.render(title=title, script=script, style=style, script_hash=digest, packed=packed)
