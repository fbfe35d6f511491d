"""Measure the alerts of opinion monitoring: planted surges found, false alerts on shuffled times, windows of labelled counts.

    python -m tests.benchmarks.monitoring /path/to/data            # airline_tweets
    python -m tests.benchmarks.monitoring /path/to/data --counts   # nab_tweets; needs `pip install ruptures`
    python -m tests.benchmarks.monitoring /path/to/data --search   # nab_tweets, more settings, every half of the series

The folder holds `airline_tweets/Tweets.csv` and `nab_tweets/` (counts of ten shares, and `combined_windows.json`). The class of a
tweet is named by a head that has not seen it (five folds). A surge doubles the share of negative tweets of one airline for six
hours, to at most 1: other tweets of these hours are replaced by negative tweets of the airline. Half of the surges may choose
settings (`--half tune`), the other half is reported.
"""

import argparse
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
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sbert.apply.classification.head import centred
from sbert.apply.monitoring.alerts import VOLUME, Alert, walk_topic
from sbert.apply.monitoring.cells import buckets_of
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.times import moments_of
from tests.benchmarks.classification import SENTIMENTS, encoded
from tests.benchmarks.harness import print_table

SURGE = dt.timedelta(hours=6)
WARM_UP = dt.timedelta(hours=48)
"""Surges begin later: before, there is nothing to compare with."""
MONTH = dt.timedelta(days=30)
CALM_HOURS = 24
"""An alert about counts ends after so many calm hours; changes nearer to the one before belong to it."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Surge:
    """A planted rise of negative tweets."""

    airline: str
    begin: dt.datetime
    num_rows: int
    """Tweets of the airline in these hours."""

    @property
    def end(self) -> dt.datetime:
        """End of the rise."""
        return self.begin + SURGE


def named_tweets(data: Path, cache: Path, seed: int = 0) -> pl.DataFrame:
    """Return airline, moment, true class and out-of-fold class of each tweet, in the order of time."""
    tweets = pl.read_csv(data / "airline_tweets/Tweets.csv", infer_schema_length=0, encoding="utf8-lossy")
    tweets = tweets.filter(pl.col("airline_sentiment").is_in(SENTIMENTS) & pl.col("text").is_not_null())
    tweets = tweets.with_columns(pl.col("tweet_created").cast(pl.Float64)).sort("tweet_created", maintain_order=True)
    vectors_ND = encoded("airline", tweets["text"].to_list(), cache)
    truth = tweets["airline_sentiment"].to_numpy()
    named = cross_val_predict(
        LogisticRegression(C=10, max_iter=300),
        centred(vectors_ND, vectors_ND.mean(axis=0)),
        truth,
        cv=StratifiedKFold(5, shuffle=True, random_state=seed),
    )
    moments = moments_of(tweets["tweet_created"])
    frame = pl.DataFrame({"airline": tweets["airline"], "moment": moments, "truth": truth, "label": list(named)})
    return frame.filter(pl.col("airline").is_not_null() & pl.col("moment").is_not_null())


def alerts_of(topic: str, rows: pl.DataFrame, settings: MonitoringSettings) -> list[Alert]:
    """Return the alerts of one topic from moments and labels of its rows."""
    cells = (
        rows.with_columns(bucket=buckets_of(rows["moment"], settings))
        .group_by("bucket", "label")
        .len("count")
        .select("bucket", "label", "count")
    )
    buckets = pl.datetime_range(
        cells["bucket"].min(), cells["bucket"].max(), settings.bucket, time_unit="ms", time_zone="UTC", eager=True
    )  # type: ignore[call-overload]
    return walk_topic(topic, cells, buckets.to_list(), list(SENTIMENTS), settings).alerts


def planted(tweets: pl.DataFrame, seed: int) -> tuple[Surge, pl.DataFrame]:
    """Return a surge at the time of a random tweet, and the tweets of its airline with it."""
    random = np.random.default_rng(seed)
    first, last = tweets["moment"][0], tweets["moment"][-1]
    places = tweets.filter(pl.col("moment").is_between(first + WARM_UP, last - SURGE))
    at = int(random.integers(len(places)))
    airline, begin = places["airline"][at], places["moment"][at]
    own = tweets.filter(pl.col("airline") == airline)
    inside = own["moment"].is_between(begin, begin + SURGE, closed="left").to_numpy()
    negative = (own["truth"] == "negative").to_numpy()
    wanted = min(int(inside.sum()), 2 * int((inside & negative).sum()))
    others = np.flatnonzero(inside & ~negative)
    replaced = random.choice(others, min(len(others), wanted - int((inside & negative).sum())), replace=False)
    label = own["label"].to_numpy().copy()
    label[replaced] = own["label"].to_numpy()[random.choice(np.flatnonzero(negative), len(replaced))]
    return Surge(airline, begin, int(inside.sum())), own.with_columns(label=pl.Series(list(label)))


def is_found(surge: Surge, alerts: Iterable[Alert], before: set[str], settings: MonitoringSettings) -> bool:
    """Return whether an alert for negative tweets, not there without the surge, opens at most one bucket after it."""
    bucket = dt.timedelta(seconds=settings.bucket_seconds)
    return any(
        alert.series == "negative"
        and alert.key not in before
        and surge.begin - bucket < alert.opened < surge.end + bucket
        for alert in alerts
    )


def measure_surges(
    tweets: pl.DataFrame, seeds: Sequence[int], settings: MonitoringSettings
) -> list[tuple[Surge, bool]]:
    """Plant surges one by one, and return which are found."""
    usual = {
        str(topic[0]): {alert.key for alert in alerts_of(str(topic[0]), rows, settings)}
        for topic, rows in tweets.partition_by("airline", as_dict=True).items()
    }
    outcomes = []
    for seed in seeds:
        surge, rows = planted(tweets, seed)
        outcomes.append(
            (surge, is_found(surge, alerts_of(surge.airline, rows, settings), usual[surge.airline], settings))
        )
    return outcomes


def best_possible(tweets: pl.DataFrame, seeds: Sequence[int], num_series: int) -> tuple[float, float]:
    """Return the share of surges that an ideal detector finds, which knows the true rates, at one false alert a month.

    It knows the airline's share without the surge and the six hours to look at. It looks at every six hours of a month once.
    The first value is for six hours that differ by chance alone, the second for the correlation that the airline's six hours
    without the surge really have.
    """
    detected = []
    level = SURGE / MONTH / num_series
    for seed in seeds:
        surge, rows = planted(tweets, seed)
        own = tweets.filter(pl.col("airline") == surge.airline)
        is_inside = pl.col("moment").is_between(surge.begin, surge.end, closed="left")
        count, total = (rows.filter(is_inside)["label"] == "negative").sum(), surge.num_rows
        usual = own.filter(~is_inside).group_by(pl.col("moment").dt.truncate("6h"))
        counts_B, totals_B = (
            values.to_numpy().astype(np.float64)
            for values in usual.agg((pl.col("label") == "negative").sum().alias("count"), pl.len()).select(
                "count", "len"
            )
        )
        mean = counts_B.sum() / totals_B.sum()
        spread = mean * (1 - mean)
        squares = (counts_B - totals_B * mean) ** 2 - totals_B * spread
        correlation = max(1e-6, squares.sum() / (spread * (totals_B * (totals_B - 1)).sum()))
        size = 1 / correlation - 1
        plain = scipy.stats.binom.sf(count - 1, total, mean)
        spread_out = scipy.stats.betabinom.sf(count - 1, total, mean * size, (1 - mean) * size)
        detected.append((plain <= level, spread_out <= level))
    by_chance, as_it_is = np.mean(detected, axis=0).tolist()
    return by_chance, as_it_is


def measure_shuffles(tweets: pl.DataFrame, seeds: Sequence[int], settings: MonitoringSettings) -> list[int]:
    """Shuffle the times within each airline; return the alerts for classes of each topic and shuffle.

    The volume of an airline over time is the same in every shuffle, so its alerts say nothing here.
    """
    counts = []
    for seed in seeds:
        for topic, rows in sorted(tweets.partition_by("airline", as_dict=True).items()):
            shuffled = rows.with_columns(moment=rows["moment"].shuffle(seed=seed))
            counts.append(sum(alert.series != VOLUME for alert in alerts_of(str(topic[0]), shuffled, settings)))
    return counts


@dataclass(frozen=True)
class Counts:
    """Counts of one topic by hour, and the windows that people labelled."""

    name: str
    hours: list[dt.datetime]
    values_H: Places
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


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/sbert-classification"))
    parser.add_argument("--counts", action="store_true", help="the labelled counts")
    parser.add_argument("--search", action="store_true", help="the labelled counts with more settings")
    parser.add_argument("--half", choices=["tune", "test"], default="test")
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument(
        "--settings",
        default='{"bucket": "3h", "half_life": 56, "min_history": 2, "windows": [1, 2], "series": ["negative"], "false_alerts": 1}',
        help="JSON, beside time_column",
    )
    arguments = parser.parse_args()
    if arguments.search:
        columns = [
            "detector",
            "F1 ↑, mean of all halves (5 to 95 %)",
            "chosen on all series but one",
            "best on all",
            "its setting",
        ]
        print_table("nab_tweets, by hour", columns, search_counts(labelled_counts(arguments.data / "nab_tweets")))
        return
    if not arguments.counts:
        settings = MonitoringSettings.model_validate({"time_column": "at", **json.loads(arguments.settings)})
        arguments.cache.mkdir(parents=True, exist_ok=True)
        tweets = named_tweets(arguments.data, arguments.cache)
        first = 0 if arguments.half == "tune" else 1_000
        seeds = range(first, first + arguments.num)
        surges = measure_surges(tweets, seeds, settings)
        shuffles = measure_shuffles(tweets, seeds, settings)
        days = (tweets["moment"][-1] - tweets["moment"][0]) / MONTH
        rows = [["surges found within a bucket", f"{sum(is_detected for _, is_detected in surges)} of {len(surges)}"]]
        for airline in sorted({surge.airline for surge, _ in surges}):
            own = [is_detected for surge, is_detected in surges if surge.airline == airline]
            rows.append([f"… of {airline}", f"{sum(own)} of {len(own)}"])
        by_chance, as_it_is = best_possible(tweets, seeds, len(settings.series) or len(SENTIMENTS) + 1)
        rows.append(["the best possible, if six hours differ by chance alone", f"{by_chance:.0%}"])
        rows.append(["the best possible, as much as they differ", f"{as_it_is:.0%}"])
        rows.append(["shuffles: alerts a topic and 30 days", f"{np.mean(shuffles) / days:.3f}"])
        rows.append(["shuffles: most alerts of a topic in one", str(max(shuffles))])
        rows.append(["shuffles: topics with more than one", f"{sum(n > 1 for n in shuffles)} of {len(shuffles)}"])
        print_table("airline_tweets", ["measure", "value"], rows)
        return
    print_table(
        "nab_tweets, by hour",
        ["detector", "F1 ↑", "windows found", "outside of windows", "setting chosen on the other half"],
        measure_counts(labelled_counts(arguments.data / "nab_tweets")),
    )


if __name__ == "__main__":
    main()
