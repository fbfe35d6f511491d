"""The trend of a table over its runs, as one HTML file with its plots inside.

Reads `_runs/` and nothing else. Everything that came from data is escaped, and the page is told to load nothing.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbert.errors import MissingError
from sbert.refresh.run_metrics import RUNS_FOLDER, read_runs
from sbert.storage.files import normalize_uri
from sbert.table.drift import cosine_of_means, energy_distance, stability_index

__all__ = ["trend_report"]

Run = dict[str, Any]

RUNS_IN_TABLE = 50
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100%; font-size: 13px } td, th { padding: 3px 8px; text-align: right }
tr:nth-child(even) { background: #f4f4f4 } td:first-child, th:first-child { text-align: left } img { max-width: 100% }
dt { font-weight: 600 } dd { margin: 0 0 .4em 0; overflow-wrap: anywhere } p { color: #555 }
"""


def trend_report(table_uri: str, *, price_per_hour: float | None = None) -> str:
    """Give the page.

    Args:
        table_uri: the table.
        price_per_hour: what the machine costs, in any currency; without it cost is shown in machine hours.

    Raises:
        MissingError: when no run has left its metrics beside the table.
    """
    uri = normalize_uri(table_uri)
    frame = read_runs(uri)
    runs: list[Run] = [run for run in frame.to_dicts() if not run.get("dry_run")]
    if not runs:
        raise MissingError(f"{uri}: no run has left metrics in {RUNS_FOLDER}/ yet: run `sbert refresh` first", uri=uri)
    return _page(uri, runs, _plots(runs, price_per_hour))


def _plots(runs: list[Run], price_per_hour: float | None) -> list[tuple[str, str, str]]:
    """Give (title, what is seen, picture) of each plot."""
    unit = "machine hours" if price_per_hour is None else f"money, at {price_per_hour:g} per hour"
    return [
        ("Volume", "Rows in the table, and what became of the rows read in each run.", _plot(runs, _volume)),
        ("Rates", "Rows read and texts encoded per second of the whole run.", _plot(runs, _rates)),
        ("Rejected rows", "Share of the rows read, by reason.", _plot(runs, _rejects)),
        ("Token lengths", "Quantiles over a sample of the table, special tokens included.", _plot(runs, _tokens)),
        (
            "Drift of the vectors",
            "Each run's table against that of the run before with the same encoder, by a sample of rows. Cosine of the mean "
            "vectors (1: no shift); population stability index (above 0.1: look, above 0.25: changed) and energy distance "
            "along fixed directions. Dotted: another encoder.",
            _plot(runs, _drift),
        ),
        (
            "Cost",
            f"In {unit}: of each run, and of a million rows encoded.",
            _plot(runs, lambda axes, seen: _cost(axes, seen, price_per_hour)),
        ),
    ]  # fmt: skip


def _plot(runs: list[Run], draw: Callable[[Axes, list[Run]], None]) -> str:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, runs)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.autofmt_xdate()
    image = io.BytesIO()
    figure.savefig(image, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(image.getvalue()).decode()


def _when(runs: Sequence[Run]) -> npt.NDArray[np.datetime64]:
    return np.array([run["started"].replace(tzinfo=None) for run in runs], dtype="datetime64[us]")


def _numbers(runs: Sequence[Run], name: str) -> list[float]:
    return [float("nan") if run.get(name) is None else float(run[name]) for run in runs]


def _volume(axes: Axes, runs: list[Run]) -> None:
    axes.plot(_when(runs), _numbers(runs, "num_rows"), "k.-", label="in the table")
    for name in ("encoded", "carried", "rejected"):
        axes.plot(_when(runs), _numbers(runs, f"num_rows_{name}"), ".-", label=name)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylabel("rows")


def _rates(axes: Axes, runs: list[Run]) -> None:
    for name, label in (("num_rows_read", "rows read"), ("num_texts_encoded", "texts encoded")):
        rates = [run[name] / run["seconds"] if run.get(name) and run.get("seconds") else float("nan") for run in runs]
        axes.plot(_when(runs), rates, ".-", label=label)
    axes.set_ylabel("per second")
    axes.set_ylim(bottom=0)


def _rejects(axes: Axes, runs: list[Run]) -> None:
    by_run = [{item["reason"]: item["num_rows"] for item in run.get("rejects_by_reason") or []} for run in runs]
    for reason in sorted({reason for found in by_run for reason in found}):
        shares = [
            100 * found.get(reason, 0) / run["num_rows_read"] if run.get("num_rows_read") else float("nan")
            for run, found in zip(runs, by_run, strict=True)
        ]
        axes.plot(_when(runs), shares, ".-", label=_plain(reason))
    axes.set_ylabel("% of rows read")
    axes.set_ylim(bottom=0)


def _tokens(axes: Axes, runs: list[Run]) -> None:
    for name in ("p10", "p50", "p90", "p99", "p100"):
        label = "longest" if name == "p100" else name
        axes.plot(_when(runs), _numbers(runs, f"tokens_{name}"), ".-", label=label)
    axes.set_yscale("log")
    axes.set_ylabel("tokens")


def drift_of(runs: Sequence[Run]) -> list[dict[str, float] | None]:
    """Give how far each run's vectors are from the run before; None for the first, and after a change of encoder."""
    found: list[dict[str, float] | None] = [None]
    for base, now in pairwise(runs):
        comparable = (
            base.get("mean_vector")
            and now.get("mean_vector")
            and base["encoder_fingerprint"] == now["encoder_fingerprint"]
        )
        found.append(
            {
                "cosine": cosine_of_means(base["mean_vector"], now["mean_vector"]),
                "stability": stability_index(base["seen_along"], now["seen_along"]),
                "energy": energy_distance(base["seen_along"], now["seen_along"]),
            }
            if comparable
            else None
        )
    return found


def _drift(axes: Axes, runs: list[Run]) -> None:
    drift = drift_of(runs)
    for name, label in (("stability", "stability index"), ("energy", "energy distance")):
        axes.plot(_when(runs), [item[name] if item else float("nan") for item in drift], ".-", label=label)
    axes.axhline(0.1, color="gray", linewidth=0.5)
    axes.axhline(0.25, color="gray", linewidth=0.5)
    axes.set_ylim(bottom=0)
    axes.legend(
        fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False
    )  # right: another axis
    right = axes.twinx()
    cosines = [item["cosine"] if item else float("nan") for item in drift]
    right.plot(_when(runs), cosines, "k.--", linewidth=0.8)
    right.set_ylabel("cosine of means (black)")
    for base, now in pairwise(runs):
        if base["encoder_fingerprint"] != now["encoder_fingerprint"]:
            axes.axvline(now["started"], color="red", linestyle=":")


def _cost(axes: Axes, runs: list[Run], price_per_hour: float | None) -> None:
    price = 1.0 if price_per_hour is None else price_per_hour
    costs = [price * (run.get("seconds") or 0.0) / 3600 for run in runs]
    per_million = [
        1e6 * cost / run["num_rows_encoded"] if run.get("num_rows_encoded") else float("nan")
        for cost, run in zip(costs, runs, strict=True)
    ]
    axes.plot(_when(runs), costs, ".-", label="each run")
    axes.plot(_when(runs), per_million, ".-", label="a million rows")
    axes.set_ylabel("hours" if price_per_hour is None else "cost")
    axes.set_yscale("log")


def _plain(text: str) -> str:
    """Keep matplotlib from reading a formula into text."""
    return text.replace("$", r"\$")


def _page(uri: str, runs: list[Run], plots: list[tuple[str, str, str]]) -> str:
    last = runs[-1]
    facts = {
        "Table": uri,
        "Source": last.get("raw_uri"),
        "Encoder": f"{last.get('encoder')} (dim {last.get('dim')}, {str(last.get('encoder_fingerprint'))[:12]})",
        "Version": last.get("version"),
        "Rows": f"{last.get('num_rows') or 0:,}",
        "Runs": f"{len(runs):,}, from {runs[0]['started']:%Y-%m-%d %H:%M} to {last['started']:%Y-%m-%d %H:%M} UTC",
    }
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts.items())
    figures = "".join(
        f'<h2>{html.escape(title)}</h2><p>{html.escape(seen)}</p><img alt="{html.escape(title)}" src="{image}">'
        for title, seen, image in plots
    )
    title = html.escape(f"Trend of {uri}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><dl>{listed}</dl>{figures}"
        f"<h2>Runs</h2>{_table(runs)}</body></html>\n"
    )


def _table(runs: list[Run]) -> str:
    columns = (
        "version",
        "num_rows_read",
        "num_rows_encoded",
        "num_rows_carried",
        "num_rows_rejected",
        "num_rows",
        "seconds",
    )
    head = "".join(f"<th>{html.escape(name.removeprefix('num_').replace('_', ' '))}</th>" for name in columns)
    rows = []
    for run, drift in list(zip(runs, drift_of(runs), strict=True))[: -RUNS_IN_TABLE - 1 : -1]:
        cells = "".join(f"<td>{_number(run.get(name))}</td>" for name in columns)
        stability = f"{drift['stability']:.3f}" if drift else ""
        rows.append(f"<tr><td>{run['started']:%Y-%m-%d %H:%M:%S}</td>{cells}<td>{stability}</td></tr>")
    return f"<table><tr><th>started (UTC)</th>{head}<th>stability index</th></tr>{''.join(rows)}</table>"


def _number(value: Any) -> str:
    if value is None:
        return ""
    return html.escape(f"{value:,.1f}" if isinstance(value, float) else f"{value:,}")
