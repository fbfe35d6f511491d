"""Pictures of a retraining, as ``data:`` URIs: they stay with the report wherever it goes."""

import base64
import io
import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from sbert.retrain.gate import Comparison
from sbert.training.result import HistoryPoint

__all__ = ["curves_picture", "gains_picture"]

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#6b7280"
WIDTH_INCHES = 8.0
DPI = 96


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def curves_picture(history: Sequence[HistoryPoint], dev_before: float, best_step: int) -> str:
    """Draw loss and, where there were dev rows, dev metric over the steps of training."""
    figure = Figure(figsize=(WIDTH_INCHES, 3.0))
    panels = [("loss", "training loss"), *([] if math.isnan(dev_before) else [("dev", "dev metric")])]
    for place, (name, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        points = [(point.step, point.values[name]) for point in history if name in point.values]
        if name == "dev":
            points.insert(0, (0, dev_before))
        axes.plot([step for step, _ in points], [value for _, value in points], color=BLUE, marker=".", linewidth=1.2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(visible=True, alpha=0.3)
        if name == "dev":
            axes.axhline(dev_before, color=GREY, linestyle="--", linewidth=1, label="before training")
            if best_step:
                axes.axvline(best_step, color=ORANGE, linestyle=":", linewidth=1.2, label=f"best: step {best_step}")
            axes.legend(fontsize=8)
    return _data_uri(figure)


def gains_picture(comparisons: Sequence[Comparison], margin: float) -> str:
    """Draw each comparison's gain with its interval; right of the line is better."""
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 0.45 * len(comparisons)))
    axes = figure.add_subplot()
    places = list(range(len(comparisons), 0, -1))
    for place, item in zip(places, comparisons, strict=True):
        color = BLUE if item.tolerance is None else GREY
        axes.plot([item.low, item.high], [place, place], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([item.gain], [place], marker="o", color=color)
        if item.tolerance is not None:
            axes.plot([-item.tolerance], [place], marker="|", markersize=14, color=ORANGE)
    axes.axvline(margin, color=ORANGE, linestyle="--", linewidth=1)
    labels = [f"{item.set_name.replace('$', chr(92) + '$')}: {item.metric}" for item in comparisons]
    axes.set_yticks(places, labels, fontsize=9)
    axes.set_ylim(0.4, len(comparisons) + 0.6)
    axes.set_xlabel("gain of the candidate over production, with its paired bootstrap interval", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(visible=True, axis="x", alpha=0.3)
    return _data_uri(figure)
