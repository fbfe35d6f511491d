"""Pictures of a retraining, as ``data:`` URIs: they stay with the report wherever it goes."""

import base64
import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sbert.evaluation.robustness_sets import PREFIX
from sbert.retrain.gate import MetricComparison
from sbert.training.result import HistoryPoint

__all__ = ["curves_picture", "gains_picture"]

BLUE, ORANGE, GREY, GREEN = "#2563eb", "#ea580c", "#6b7280", "#059669"
WIDTH_INCHES = 5.6
"""Narrow, so that letters stay readable where the page is scaled down to a telephone."""
DPI = 144


def curves_picture(history: Sequence[HistoryPoint], dev_before: float, best_step: int) -> str:
    """Draw the loss and, where there were dev rows, the dev metric over the steps of training."""
    has_dev = not math.isnan(dev_before)
    figure = Figure(figsize=(WIDTH_INCHES, 4.6 if has_dev else 2.4), layout="constrained")
    panels = figure.subplots(2 if has_dev else 1, 1, sharex=True, squeeze=False)[:, 0]
    _curve(panels[0], [(point.step, point.values["loss"]) for point in history if "loss" in point.values])
    panels[0].set_title("training loss ↓", fontsize=10, loc="left")
    if has_dev:
        points = [(point.step, point.values["dev"]) for point in history if "dev" in point.values]
        _curve(panels[1], [(0, dev_before), *points])
        panels[1].set_title("dev metric ↑", fontsize=10, loc="left")
        panels[1].axhline(dev_before, color=GREY, linestyle="--", linewidth=1, label="before training")
        if best_step:
            panels[1].axvline(best_step, color=ORANGE, linestyle=":", linewidth=1.2, label=f"best: step {best_step}")
        figure.legend(fontsize=9, loc="outside lower center", ncols=2, frameon=False)
    panels[-1].set_xlabel("step", fontsize=9)
    return _data_uri(figure)


def gains_picture(comparisons: Sequence[MetricComparison], margin: float) -> str:
    """Draw each comparison's gain with its interval; right of the line is better."""
    figure = Figure(figsize=(WIDTH_INCHES, 1.5 + 0.5 * len(comparisons)), layout="constrained")
    axes = figure.add_subplot()
    labels: set[str] = set()

    def once(label: str) -> str | None:
        """Return a label the first time, so that the legend names it once."""
        is_new = label not in labels
        labels.add(label)
        return label if is_new else None

    places = range(len(comparisons), 0, -1)
    for place, item in zip(places, comparisons, strict=True):
        color, label = _role(item)
        axes.plot([item.low, item.high], [place, place], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([item.gain], [place], marker="o", linestyle="", color=color, label=once(label))
        if item.tolerance is not None:
            drop = once("accepted drop")
            axes.plot([-item.tolerance], [place], marker="|", markersize=14, linestyle="", color=ORANGE, label=drop)
    margin_label = f"margin {margin:g}: the interval must lie right of it"
    axes.axvline(margin, color=ORANGE, linestyle="--", linewidth=1, label=margin_label)
    names = [f"{item.set_name}: {item.metric}".replace("$", r"\$") for item in comparisons]
    axes.set_yticks(list(places), [name if len(name) <= 40 else f"{name[:39]}…" for name in names], fontsize=9)
    axes.set_ylim(0.4, len(comparisons) + 0.6)
    figure.suptitle("gain of the candidate over production ↑, with its interval", fontsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(visible=True, axis="x", alpha=0.3)
    figure.legend(fontsize=8.5, loc="outside lower center", ncols=2, frameon=False)
    return _data_uri(figure)


def _role(item: MetricComparison) -> tuple[str, str]:
    """Return the colour of a comparison, and its name in the legend."""
    if item.tolerance is None:
        return BLUE, "gain that decides"
    if item.set_name.startswith(PREFIX):
        return GREEN, "gain on a robustness set"
    return GREY, "gain on a regression set"


def _curve(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    axes.plot([step for step, _ in points], [value for _, value in points], color=BLUE, marker=".", linewidth=1.2)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, alpha=0.3)


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
