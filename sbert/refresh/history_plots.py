"""The plots of a table's history: one small picture per quantity, so that no axis holds two scales.

Runs stand side by side in the order in which they began; the axis shows their dates. What a run did is a bar, the state of
the table after a run is a point on a line.
"""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from sbert.pages.pictures import Picture, as_picture, few_ticks, new_axes, plain
from sbert.refresh.run_metrics import SAMPLE_BY_HASH
from sbert.table.drift import cosine_of_means, energy_distance, stability_index

__all__ = ["Drift", "Run", "compact_number", "draw_plots", "drift_of", "is_backfill"]

Run = dict[str, Any]
Numbers = Sequence[float]

REFRESH_COLOR, BACKFILL_COLOR, LINE_COLOR, LIMIT_COLOR, ENCODER_COLOR = (
    "#2563eb",
    "#ea580c",
    "#374151",
    "#6b7280",
    "#dc2626",
)
STACK_COLORS = ("#b91c1c", "#d97706", "#65a30d", "#0891b2", "#7c3aed", "#be185d", "#475569", "#a16207")
MAX_DATES = 5
MIN_PLACES = 6
"""Room for this many runs at least, so that a single bar is not as wide as the picture."""
WIDE_RANGE = 1_000
"""From this ratio of the largest to the least value on, the axis is logarithmic: small runs stay visible."""
NAN = float("nan")


@dataclass(frozen=True)
class Drift:
    """The distance of the vectors of a run's table from the vectors of the run before."""

    cosine: float
    stability: float
    energy: float


def is_backfill(run: Run) -> bool:
    """Return whether a run was a backfill."""
    return run.get("operation") == "backfill"


def drift_of(runs: Sequence[Run]) -> list[Drift | None]:
    """Return the distance of each run's vectors from the vectors of the run before.

    None stands for the first run, a run without a sample, and a run after a change of encoder.
    """
    drift: list[Drift | None] = [None]
    for base, now in pairwise(runs):
        comparable = (
            base.get("sampled_by") == now.get("sampled_by") == SAMPLE_BY_HASH
            and base["encoder_fingerprint"] == now["encoder_fingerprint"]
        )
        drift.append(
            Drift(
                cosine=cosine_of_means(base["mean_vector"], now["mean_vector"]),
                stability=stability_index(base["seen_along"], now["seen_along"]),
                energy=energy_distance(base["seen_along"], now["seen_along"]),
            )
            if comparable
            else None
        )
    return drift


def draw_plots(runs: Sequence[Run], price_per_hour: float | None) -> list[Picture]:
    """Draw everything that the page shows, most important first."""
    return [*_row_plots(runs), *_speed_plots(runs, price_per_hour), *_drift_plots(runs), *_token_plots(runs)]


def _row_plots(runs: Sequence[Run]) -> list[Picture]:
    def bars(title: str, explanation: str, name: str) -> Picture:
        return _bar_plot(runs, title, explanation, _numbers(runs, name))

    return [
        _plot(
            runs, "Rows in the table", "After each run.", lambda axes: _line(axes, runs, [_numbers(runs, "num_rows")])
        ),
        bars("Rows read", "In each run. Unchanged splits are not read.", "num_rows_read"),
        bars("Rows encoded", "In each run, by the encoder.", "num_rows_encoded"),
        bars("Rows carried over", "In each run, with a vector that the table had.", "num_rows_carried"),
        _plot(
            runs, "Rows rejected, % of the rows read ↓", "In each run, by reason.", lambda axes: _rejects(axes, runs)
        ),
    ]


def _speed_plots(runs: Sequence[Run], price_per_hour: float | None) -> list[Picture]:
    unit = "machine hours" if price_per_hour is None else f"money, at {price_per_hour:g} per machine hour"
    price = 1.0 if price_per_hour is None else price_per_hour
    costs = [price * seconds / 3600 for seconds in _numbers(runs, "seconds")]
    nothing = "No bar where nothing was encoded."
    return [
        _bar_plot(runs, "Rows read per second ↑", "Of the whole run.", _rates(runs, "num_rows_read")),
        _bar_plot(
            runs, "Texts encoded per second ↑", f"Of the whole run. {nothing}", _rates(runs, "num_texts_encoded")
        ),
        _bar_plot(runs, "Duration, minutes ↓", "Of each run.", [value / 60 for value in _numbers(runs, "seconds")]),
        _bar_plot(runs, f"Cost of a run, {unit} ↓", "Duration times price.", costs),
        _bar_plot(
            runs,
            f"Cost of a million encoded rows, {unit} ↓",
            nothing,
            [
                1e6 * cost / run["num_rows_encoded"] if run.get("num_rows_encoded") else NAN
                for cost, run in zip(costs, runs, strict=True)
            ],
        ),
    ]


def _drift_plots(runs: Sequence[Run]) -> list[Picture]:
    drift = drift_of(runs)
    stability, energy, cosine = (
        [NAN if item is None else getattr(item, name) for item in drift] for name in ("stability", "energy", "cosine")
    )
    limits = {0.1: "look at it: 0.1", 0.25: "changed: 0.25"}
    return [
        _plot(
            runs,
            "Drift: population stability index ↓",
            "Shape of the vectors against the run before, by a sample of texts. 0 is no change.",
            lambda axes: _drift(axes, runs, stability, limits),
        ),
        _plot(
            runs,
            "Drift: energy distance ↓",
            "The same comparison by another measure. 0 is no change.",
            lambda axes: _drift(axes, runs, energy, {}),
        ),
        _plot(
            runs,
            "Drift: cosine of the mean vectors ↑",
            "Against the run before. 1 is no shift of the whole.",
            lambda axes: _cosine(axes, runs, cosine),
        ),
    ]


def _token_plots(runs: Sequence[Run]) -> list[Picture]:
    return [
        _plot(
            runs,
            "Tokens per text",
            "Quantiles of the sample, special tokens included.",
            lambda axes: _tokens(axes, runs),
        ),
        _plot(
            runs,
            "Tokens of the longest text",
            "Of the sample. Texts beyond the limit are truncated or windowed.",
            lambda axes: _longest(axes, runs),
        ),
    ]


def _plot(runs: Sequence[Run], title: str, explanation: str, draw: Callable[[Axes], None]) -> Picture:
    return as_picture(_figure(runs, draw), title, explanation)


def _bar_plot(runs: Sequence[Run], title: str, explanation: str, values: Numbers) -> Picture:
    return _plot(runs, title, explanation, lambda axes: _bars(axes, runs, values))


def compact_number(value: float, _: object = None) -> str:
    """Return a number as an axis shows it: 950, 12.5k, 3M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):g}{suffix}"
    return f"{value:,.6g}"


def _figure(runs: Sequence[Run], draw: Callable[[Axes], None]) -> Figure:
    figure, axes = new_axes()
    axes.grid(visible=False, axis="x")
    draw(axes)
    _mark_encoder_changes(axes, runs)
    axes.set_xlim(-0.7, max(len(runs), MIN_PLACES) - 0.3)
    labels = _date_labels(runs)
    axes.xaxis.set_major_locator(FixedLocator(list(labels)))
    axes.set_xticklabels(list(labels.values()))
    axes.yaxis.set_major_formatter(FuncFormatter(compact_number))
    handles = axes.get_legend_handles_labels()[0]
    if handles:
        figure.legend(handles=handles, fontsize=8.5, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _date_labels(runs: Sequence[Run]) -> dict[int, str]:
    """Return the dates of a few runs, evenly spread, by the run's place; the year and the time only where they matter."""
    started: list[dt.datetime] = [run["started"] for run in runs]
    step = max(1, -(-len(runs) // MAX_DATES))
    places = range(0, len(runs), step)
    has_years = len({moment.year for moment in started}) > 1
    has_times = len({started[place].date() for place in places}) < len(places)
    pattern = "%-d %b" + (" %Y" if has_years else "") + ("\n%H:%M" if has_times else "")
    return {place: started[place].strftime(pattern) for place in places}


def _numbers(runs: Sequence[Run], name: str) -> list[float]:
    return [NAN if run.get(name) is None else float(run[name]) for run in runs]


def _rates(runs: Sequence[Run], name: str) -> list[float]:
    return [run[name] / run["seconds"] if run.get(name) and run.get("seconds") else NAN for run in runs]


def _bars(axes: Axes, runs: Sequence[Run], values: Numbers) -> None:
    """Draw one bar per run; backfills have their own colour."""
    colors = [BACKFILL_COLOR if is_backfill(run) else REFRESH_COLOR for run in runs]
    axes.bar(range(len(runs)), np.nan_to_num(values), color=colors, width=0.8)
    if any(map(is_backfill, runs)):
        for color, label in ((REFRESH_COLOR, "refresh"), (BACKFILL_COLOR, "backfill")):
            axes.plot([], [], "s", color=color, label=label)
    _scale(axes, values)


def _scale(axes: Axes, values: Numbers) -> None:
    """Let the axis begin at 0, logarithmic above 1 where the values are very different."""
    positive = [value for value in values if value > 0]
    if not positive:
        axes.set_ylim(0, 1)
        text = "no values" if all(map(math.isnan, values)) else "0 in every run"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=LIMIT_COLOR)
    elif max(positive) >= WIDE_RANGE * min(positive):
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(min(positive))))
        axes.set_ylim(bottom=0)
        axes.set_title("logarithmic axis", fontsize=8, loc="right", color=LIMIT_COLOR)
    else:
        axes.set_ylim(0, 1.1 * max(positive))
        few_ticks(axes)


def _line(axes: Axes, runs: Sequence[Run], lines: Sequence[Numbers], labels: Sequence[str] = ()) -> None:
    """Draw the state after each run; a square stands for a backfill."""
    for number, values in enumerate(lines):
        color = LINE_COLOR if len(lines) == 1 else STACK_COLORS[number]
        label = labels[number] if labels else None
        axes.plot(range(len(runs)), list(values), ".-", color=color, linewidth=1.2, label=label)
        places = [place for place, run in enumerate(runs) if is_backfill(run)]
        axes.plot(places, [values[place] for place in places], "s", color=BACKFILL_COLOR, markersize=5)
    if any(map(is_backfill, runs)):
        axes.add_line(Line2D([], [], marker="s", linestyle="", color=BACKFILL_COLOR, label="after a backfill"))
    _scale(axes, [value for values in lines for value in values])


def _limit(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=LIMIT_COLOR, linewidth=0.9, linestyle="--")
    axes.annotate(
        label,
        (0.01, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=8,
        color=LIMIT_COLOR,
    )


def _rejects(axes: Axes, runs: Sequence[Run]) -> None:
    by_run = [{item["reason"]: item["num_rows"] for item in run.get("rejects_by_reason") or []} for run in runs]
    bottom = np.zeros(len(runs))
    for number, reason in enumerate(sorted({reason for counts in by_run for reason in counts})):
        shares = np.array(
            [
                100 * counts.get(reason, 0) / run["num_rows_read"] if run.get("num_rows_read") else 0.0
                for run, counts in zip(runs, by_run, strict=True)
            ]
        )
        color = STACK_COLORS[number % len(STACK_COLORS)]
        axes.bar(range(len(runs)), shares, bottom=bottom, color=color, width=0.8, label=plain(reason))
        bottom += shares
    if bottom.any():
        axes.set_ylim(0, 1.1 * bottom.max())
        few_ticks(axes)
    else:
        axes.set_ylim(0, 1)
        axes.text(0.5, 0.5, "no row was rejected", transform=axes.transAxes, ha="center", color=LIMIT_COLOR)


def _tokens(axes: Axes, runs: Sequence[Run]) -> None:
    names = {"p99": "99 % are shorter", "p90": "90 %", "p50": "half", "p10": "10 %"}
    _line(axes, runs, [_numbers(runs, f"tokens_{name}") for name in names], list(names.values()))


def _longest(axes: Axes, runs: Sequence[Run]) -> None:
    longest, limits = _numbers(runs, "tokens_p100"), _numbers(runs, "max_seq_length")
    _line(axes, runs, [longest])
    limit = limits[-1]
    if any(value >= limit / 4 for value in longest):  # near enough to be drawn; never when the limit is not known
        _limit(axes, limit, f"limit of the encoder: {limit:g} tokens")
        axes.set_ylim(0, 1.15 * max(limit, *(value for value in longest if not math.isnan(value))))


def _drift(axes: Axes, runs: Sequence[Run], values: Numbers, limits: dict[float, str]) -> None:
    _line(axes, runs, [values])
    for limit, label in limits.items():
        _limit(axes, limit, label)
    measured = [value for value in values if not math.isnan(value)]
    _clear_notes(axes, measured)
    axes.set_ylim(0, 1.15 * max([*measured, *limits, 0.02]))


def _clear_notes(axes: Axes, measured: Numbers) -> None:
    """Draw drift on a linear axis, and let a flat line at 0 speak for itself."""
    axes.set_yscale("linear")  # which forgets the ticks
    few_ticks(axes)
    axes.set_title("", loc="right")
    if measured:
        for text in list(axes.texts):
            if text.get_text() == "0 in every run":
                text.remove()


def _cosine(axes: Axes, runs: Sequence[Run], values: Numbers) -> None:
    _line(axes, runs, [values])
    measured = [value for value in values if not math.isnan(value)]
    _clear_notes(axes, measured)
    low = min([0.99, *measured])
    axes.set_ylim(low - 0.05 * (1 - low), 1 + 0.1 * (1 - low))


def _mark_encoder_changes(axes: Axes, runs: Sequence[Run]) -> None:
    label: str | None = "another encoder"
    for place, (base, now) in enumerate(pairwise(runs)):
        if base["encoder_fingerprint"] != now["encoder_fingerprint"]:
            axes.axvline(place + 0.5, color=ENCODER_COLOR, linestyle=":", linewidth=1.2, label=label)
            label = None
