"""Pictures of pages: figures of matplotlib in one style, as ``data:`` URIs, so that they stay with the page."""

import base64
import io
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "SERIES",
    "Picture",
    "as_picture",
    "date_axis",
    "few_ticks",
    "legend_below",
    "new_axes",
    "new_figure",
    "plain",
]

BLUE, ORANGE, GREY, RED, GREEN = "#2563eb", "#ea580c", "#6b7280", "#dc2626", "#16a34a"
SERIES = ("#2563eb", "#ea580c", "#0891b2", "#7c3aed", "#65a30d", "#be185d", "#a16207", "#475569")
"""Colours of lines or bars that stand beside each other."""
WIDTH_INCHES, HEIGHT_INCHES = 5.6, 2.8
"""Narrow, so that letters stay readable where the page is scaled down to a telephone."""
MAX_INTERVALS = 5


@dataclass(frozen=True)
class Picture:
    """One picture of a page."""

    title: str
    explanation: str
    image: str
    """A ``data:`` URI."""


def new_figure(height: float = HEIGHT_INCHES) -> Figure:
    """Return an empty figure as wide as a page wants it.

    Args:
        height: inches.
    """
    return Figure(figsize=(WIDTH_INCHES, height), layout="constrained")


def new_axes(height: float = HEIGHT_INCHES, *, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, a light grid and small letters.

    Args:
        height: inches.
        x: what the horizontal axis shows, with its unit.
        y: what the vertical axis shows, with its unit.
    """
    figure = new_figure(height)
    axes = figure.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    axes.tick_params(labelsize=9)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    few_ticks(axes)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    return figure, axes


class _FewTicks(MaxNLocator):
    """Few round numbers; whole ones on an axis that is long enough for them, since most of these show counts."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        self.set_params(integer=abs(vmax - vmin) >= MAX_INTERVALS)
        return super().tick_values(vmin, vmax)


def few_ticks(axes: Axes) -> None:
    """Give the vertical axis a number of ticks that does not depend on its length.

    Otherwise the layout leaves room for the numbers of a few ticks, then draws more of them, and longer ones are cut off.
    """
    axes.yaxis.set_major_locator(_FewTicks(MAX_INTERVALS))


def as_picture(figure: Figure, title: str, explanation: str = "") -> Picture:
    """Return a finished figure as a picture of a page.

    Args:
        figure: drawn to its end.
        title: what it shows.
        explanation: how to read it, in one sentence.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(title, explanation, f"data:image/svg+xml;base64,{image}")


def date_axis(axes: Axes, zone: str = "UTC") -> None:
    """Write few dates under the horizontal axis, each no longer than it must be, so that none covers another."""
    locator = AutoDateLocator(minticks=3, maxticks=6, tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]


def legend_below(figure: Figure, num_columns: int = 3) -> None:
    """Put the legend under a picture, where it covers no line."""
    figure.legend(fontsize=8.5, loc="outside lower center", ncols=num_columns, frameon=False)


def plain(text: str) -> str:
    """Return a text of the data for a label: matplotlib reads no formula into it."""
    return text.replace("$", r"\$")
