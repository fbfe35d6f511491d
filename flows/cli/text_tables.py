"""Tables of the command line that keep every value readable, also in a window of 60 columns."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import JustifyMethod
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as TextTable

from flows.cli.output import cell, out

__all__ = ["Column", "print_properties", "print_rows"]

INDENT = 4
"""Columns by which the lines below the first one of a row are moved to the right in a narrow window."""


def print_properties(title: str, properties: Iterable[tuple[str, Any]], *, justify: JustifyMethod = "left") -> None:
    """Print names and values side by side; a value that is too long goes on in the next line.

    A name that begins with spaces belongs to the name above it.
    """
    table = TextTable(title=cell(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify=justify, overflow="fold")
    for name, value in properties:
        label = name.lstrip()
        table.add_row(Padding(cell(label), (0, 0, 0, len(name) - len(label))), cell(value))
    out.print(table)


@dataclass(frozen=True)
class Column:
    """A column of `print_rows`."""

    name: str
    is_number: bool = False
    is_lead: bool = False
    """True if a narrow window shows the value, without its name, in the first line of the row."""


def print_rows(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a window that is too narrow for it, print a block of lines for each row."""
    out.print(cell(title), style="italic")
    table = TextTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.name, justify="right" if column.is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(cell, row))
    unlimited = out.options.update(max_width=10_000)
    if Measurement.get(out, unlimited, table).maximum <= out.width:
        out.print(table)
        return
    for row in rows:
        named = [(column, value) for column, value in zip(columns, row, strict=True) if value]
        out.print("  ".join(cell(value) for column, value in named if column.is_lead), style="bold")
        rest = " · ".join(f"{column.name} {value}" for column, value in named if not column.is_lead)
        lines = textwrap.wrap(rest, out.width - INDENT) if not out.soft_wrap else [rest]
        out.print(textwrap.indent("\n".join(lines), " " * INDENT), markup=False, soft_wrap=True)
