"""Labelled counts of `nab_tweets`: windows found by `sbert monitor`, a z-score and PELT. Run by `tests.benchmarks.monitoring`."""

import csv
import datetime as dt
import importlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.monitoring.alerts import walk_topic
from sbert.apply.monitoring.settings import MonitoringSettings

CALM_HOURS = 24
"""An alert about counts ends after so many calm hours; changes nearer to the one before belong to it."""


@dataclass(frozen=True)
class Counts:
    """Counts of one topic by hour, and the windows that people labelled."""

    name: str
    hours: list[dt.datetime]
    values_H: npt.NDArray[np.int64]
    windows: list[tuple[dt.datetime, dt.datetime]]


def labelled_counts(folder: Path) -> list[Counts]:
    """Return the series of `nab_tweets`, summed to hours."""
    windows = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))
    series = []
    for file in sorted(folder.glob("*.csv")):
        rows = list(csv.DictReader(file.open(encoding="utf-8")))
        frame = pl.DataFrame(
            {"at": [row["timestamp"] for row in rows], "value": [int(float(row["value"])) for row in rows]}
        ).with_columns(pl.col("at").str.to_datetime(time_unit="ms", time_zone="UTC").dt.truncate("1h"))
        summed = frame.group_by("at").agg(pl.col("value").sum()).sort("at").upsample("at", every="1h")
        (labelled_spans,) = [spans for name, spans in windows.items() if name.endswith(f"/{file.name}")]
        spans = [(_moment(begin), _moment(end)) for begin, end in labelled_spans]
        series.append(
            Counts(file.stem, summed["at"].to_list(), summed["value"].fill_null(0).to_numpy().astype(np.int64), spans)
        )
    return series


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


Detector = Callable[[Counts, float], list[dt.datetime]]


def by_monitoring(series: Counts, false_alerts: float, half_life: float = 168) -> list[dt.datetime]:
    """Return when alerts of this package open; the half-life is in hours."""
    settings = MonitoringSettings(
        time_column="at",
        bucket="1h",
        half_life=half_life,
        min_history=24,
        false_alerts=false_alerts,
        min_volume=1,
        close_after=CALM_HOURS,
    )
    cells = pl.DataFrame({"bucket": series.hours, "label": [None] * len(series.hours), "count": series.values_H})
    return [alert.opened for alert in walk_topic(series.name, cells, series.hours, [], settings).alerts]


def by_ewma(series: Counts, threshold: float, half_life: float = 24) -> list[dt.datetime]:
    """Return when a count exceeds an exponentially weighted mean by some standard deviations; the half-life is in hours."""
    keep = 0.5 ** (1 / half_life)
    mean, variance = float(series.values_H[0]), float(series.values_H[0] + 1)
    last, detections = -CALM_HOURS, []
    for at, value in enumerate(series.values_H.tolist()):
        if at >= 24 and value - mean > threshold * math.sqrt(variance):
            if at - last >= CALM_HOURS:  # alerts of all detectors end after so many calm hours
                detections.append(series.hours[at])
            last = at
        variance = keep * variance + (1 - keep) * (value - mean) ** 2
        mean = keep * mean + (1 - keep) * value
    return detections


def by_pelt(series: Counts, penalty: float) -> list[dt.datetime]:
    """Return the changes of level that PELT finds (Killick et al. 2012), on square roots, whose variance is even.

    With a linear kernel the cost is the sum of squares, and the search is PELT in C.
    """
    ruptures: Any = importlib.import_module("ruptures")
    roots = np.sqrt(series.values_H.astype(np.float64))
    scale = np.median(np.abs(np.diff(roots))) / 0.954 + 1e-9  # of differences of normal values
    changes = ruptures.KernelCPD(kernel="linear", min_size=2).fit(roots / scale).predict(pen=penalty)
    first = [at for before, at in zip([-CALM_HOURS, *changes], changes, strict=False) if at - before >= CALM_HOURS]
    return [series.hours[at] for at in first if at < len(series.hours)]


DETECTORS: dict[str, tuple[Detector, tuple[float, ...]]] = {
    "sbert monitor": (by_monitoring, (0.001, 0.01, 0.1, 1)),
    "EWMA z-score": (by_ewma, (2, 3, 4, 5, 6, 8, 10, 15, 20)),
    "PELT": (by_pelt, (5, 10, 20, 40, 80, 160, 320, 640, 1280)),
}
"""Each with the values of its one setting that may be chosen."""


def hits(series: Counts, detections: Sequence[dt.datetime]) -> tuple[int, int, int]:
    """Return windows with a detection, windows without, and detections outside of all windows."""
    inside = [sum(begin <= at <= end for at in detections) for begin, end in series.windows]
    outside = sum(not any(begin <= at <= end for begin, end in series.windows) for at in detections)
    return sum(count > 0 for count in inside), sum(count == 0 for count in inside), outside


def f1(results: Iterable[tuple[int, int, int]]) -> float:
    """Return F1 over the windows of several series."""
    right, missed, wrong = (sum(part) for part in zip(*results, strict=True))
    return 2 * right / max(1, 2 * right + missed + wrong)


def measure_counts(every: Sequence[Counts]) -> list[list[str]]:
    """Choose each detector's setting on one half of the series, measure on the other, and the other way round."""
    halves = [list(every[::2]), list(every[1::2])]
    rows = []
    for name, (detect, values) in DETECTORS.items():
        outcomes = {(series.name, value): hits(series, detect(series, value)) for series in every for value in values}
        results: list[tuple[int, int, int]] = []
        thresholds = []
        for seen, unseen in (halves, halves[::-1]):
            scores = {value: f1(outcomes[series.name, value] for series in seen) for value in values}
            best = max(values, key=lambda value: scores[value])
            thresholds.append(f"{best:g}")
            results += [outcomes[series.name, best] for series in unseen]
        right, missed, wrong = (sum(part) for part in zip(*results, strict=True))
        rows.append([name, f"{f1(results):.3f}", f"{right} of {right + missed}", str(wrong), ", ".join(thresholds)])
    return rows


HALF_LIVES = (24.0, 72.0, 168.0, 336.0)
SEARCHED: dict[str, tuple[Callable[..., list[dt.datetime]], list[tuple[float, ...]]]] = {
    "sbert monitor, half-life of a week": (by_monitoring, [(value,) for value in (1e-7, 1e-5, 0.001, 0.01, 0.1, 1)]),
    "sbert monitor, four half-lives": (
        by_monitoring,
        list(itertools.product((1e-7, 1e-5, 0.001, 0.01, 0.1, 1), HALF_LIVES)),
    ),
    "EWMA z-score, half-life of a day": (by_ewma, [(value,) for value in DETECTORS["EWMA z-score"][1]]),
    "EWMA z-score, four half-lives": (by_ewma, list(itertools.product(DETECTORS["EWMA z-score"][1], HALF_LIVES))),
    "PELT": (by_pelt, [(value,) for value in DETECTORS["PELT"][1]]),
}
"""Detectors with all settings that the search looks at."""


Outcomes = dict[tuple[float, ...], list[tuple[int, int, int]]]
"""What each setting found in each series, as `hits`."""


def _best(outcomes: Outcomes, places: Sequence[int]) -> tuple[float, ...]:
    """Return the setting with the best F1 over some of the series."""
    return max(outcomes, key=lambda setting: f1(outcomes[setting][at] for at in places))


def search_counts(every: Sequence[Counts]) -> list[list[str]]:
    """Choose settings on each half of the series and measure on the other; the same with all series but one.

    The last columns hold the best setting on all series. It is no result, but no choice can be better.
    """
    halves = list(itertools.combinations(range(len(every)), len(every) // 2))
    rows = []
    for name, (detect, settings) in SEARCHED.items():
        outcomes: Outcomes = {
            setting: [hits(series, detect(series, *setting)) for series in every] for setting in settings
        }

        scores = []
        for seen in halves:
            chosen = outcomes[_best(outcomes, seen)]
            scores.append(f1(chosen[at] for at in range(len(every)) if at not in seen))
        everything = range(len(every))
        alone = [outcomes[_best(outcomes, [other for other in everything if other != at])][at] for at in everything]
        of_all = _best(outcomes, everything)
        low, high = np.quantile(scores, [0.05, 0.95])
        rows.append([name, f"{np.mean(scores):.3f} ({low:.3f} to {high:.3f})", f"{f1(alone):.3f}", f"{f1(outcomes[of_all]):.3f}",
                     ", ".join(f"{value:g}" for value in of_all)])  # fmt: skip
    return rows
