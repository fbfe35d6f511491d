"""A report as one HTML page: properties, then sections of text, pictures and tables.

The page is one file that needs no server. Everything that comes from data is escaped, and the page is told to load nothing,
so that a text from a corpus can neither run nor call out. It follows the reader's choice of light or dark, and a table turns
into cards on a telephone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

from sbert.pages.pictures import Picture
from sbert.pages.templates import page_template

__all__ = ["PageTable", "Section", "Verdict", "page_style", "render_page"]

TEMPLATE = "page.html.j2"
STYLE = "page.css"
MAX_SHORT = 26
"""Characters of a cell that is written in one line, however narrow the column is."""


@dataclass(frozen=True)
class PageTable:
    """A table of a page. Every cell is text, formatted by the caller."""

    columns: Sequence[str]
    """Titles, all different."""
    rows: Sequence[Sequence[str]]
    """Rows, each with as many cells as there are columns."""
    caption: str = ""
    text_columns: Sequence[str] = ()
    """Titles of the columns that hold text rather than numbers, beside the first: they stand to the left."""

    def __post_init__(self) -> None:
        """Check that every row has a cell for each column.

        Raises:
            ValueError: a row has more or fewer cells.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, the table has {len(self.columns)} columns: {row}")

    @property
    def text(self) -> frozenset[str]:
        """The titles of the columns whose cells stand to the left."""
        return frozenset([*self.columns[:1], *self.text_columns])

    @property
    def short(self) -> frozenset[str]:
        """The titles of the columns whose cells are all so short that none needs a second line."""
        return frozenset(
            name
            for at, name in enumerate(self.columns)
            if all(len(row[at]) <= MAX_SHORT for row in self.rows) and len(name) <= MAX_SHORT
        )


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading."""

    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[PageTable] = ()
    parts: Sequence["Section"] = field(default=())
    """Sections that are closed until the reader opens them, such as the texts behind a number."""


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a page, in a sentence; shown first, in a box."""

    text: str
    mood: Literal["", "good", "bad"] = ""
    """Colours the box."""


def render_page(
    title: str, properties: Mapping[str, str], sections: Sequence[Section], *, verdict: Verdict | None = None
) -> str:
    """Return a page as HTML.

    Args:
        title: heading, and name of the browser's tab.
        properties: what the reader should know first, by name.
        sections: the rest, in the order of importance.
        verdict: one sentence that says what was found or decided.
    """
    return page_template(__package__, TEMPLATE).render(
        title=title,
        style=page_style(),
        properties=dict(properties),
        sections=sections,
        verdict=verdict,
    )


def page_style() -> str:
    """Return the style of pages as CSS, for a page with a template of its own."""
    return resources.files(__package__).joinpath(STYLE).read_text(encoding="utf-8").rstrip()
