"""Measure the alerts of opinion monitoring: planted surges found, false alerts on shuffled times, windows of labelled counts.

    python -m tests.benchmarks.monitoring /path/to/data            # airline_tweets
    python -m tests.benchmarks.monitoring /path/to/data --switch   # airline_tweets, alerts that a switch of the head causes
    python -m tests.benchmarks.monitoring /path/to/data --counts   # nab_tweets; needs `pip install ruptures`
    python -m tests.benchmarks.monitoring /path/to/data --search   # nab_tweets, more settings, every half of the series

The folder holds `airline_tweets/Tweets.csv` and `nab_tweets/` (counts of ten shares, and `combined_windows.json`). The class of a
tweet is named by a head that has not seen it (five folds). A surge doubles the share of negative tweets of one airline for six
hours, to at most 1: other tweets of these hours are replaced by negative tweets of the airline. Half of the surges may choose
settings (`--half tune`), the other half is reported.
"""

import argparse
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from tests.benchmarks.monitoring_counts import labelled_counts, measure_counts, search_counts
from tests.benchmarks.monitoring_switch import AFTER, measure_switches

SURGE = dt.timedelta(hours=6)
WARM_UP = dt.timedelta(hours=48)
"""Surges begin later: before, there is nothing to compare with."""
MONTH = dt.timedelta(days=30)
SECOND_HEADS = {
    "other folds (seed 1)": (1, 10.0),
    "weaker (C 0.1)": (0, 0.1),
    "other folds and much weaker (C 0.01)": (1, 0.01),
}
"""Seed of the folds and strength of the heads that follow the first one, which has seed 0 and C 10."""


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


def named_tweets(data: Path, cache: Path, seed: int = 0, strength: float = 10.0) -> pl.DataFrame:
    """Return airline, moment, true class and out-of-fold class of each tweet, in the order of time."""
    tweets = pl.read_csv(data / "airline_tweets/Tweets.csv", infer_schema_length=0, encoding="utf8-lossy")
    tweets = tweets.filter(pl.col("airline_sentiment").is_in(SENTIMENTS) & pl.col("text").is_not_null())
    tweets = tweets.with_columns(pl.col("tweet_created").cast(pl.Float64)).sort("tweet_created", maintain_order=True)
    vectors_ND = encoded("airline", tweets["text"].to_list(), cache)
    truth = tweets["airline_sentiment"].to_numpy()
    named = cross_val_predict(
        LogisticRegression(C=strength, max_iter=300),
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
    taken = random.choice(np.flatnonzero(negative), len(replaced))
    for column in [column for column in ("label", AFTER) if column in own.columns]:
        label = own[column].to_numpy().copy()
        label[replaced] = own[column].to_numpy()[taken]
        own = own.with_columns(pl.Series(column, list(label)))
    return Surge(airline, begin, int(inside.sum())), own


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


def switch_rows(data: Path, cache: Path, seeds: Sequence[int], settings: MonitoringSettings) -> list[list[str]]:
    """Return a row of figures for each second head: planted surges, and a switch after each bucket."""
    tweets = named_tweets(data, cache)
    rows = []
    for name, (seed, strength) in SECOND_HEADS.items():
        both = tweets.with_columns(named_tweets(data, cache, seed, strength)["label"].alias(AFTER))
        series = [(surge.airline, own) for surge, own in (planted(both, seed) for seed in seeds)]
        counts = measure_switches(series, settings, WARM_UP, alerts_of)
        changed = (both["label"] != both[AFTER]).mean()
        rows.append(
            [
                name,
                f"{changed:.1%}",
                f"{counts.num_switches:,} in {counts.num_series}",
                str(counts.told),
                f"{counts.seen_differently:,}, {counts.only_second:,}",
                f"{counts.told_without}, {counts.told_next}, {counts.of_both}, {counts.repeated}",
            ]
        )
    return rows


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/sbert-classification"))
    parser.add_argument("--counts", action="store_true", help="the labelled counts")
    parser.add_argument("--search", action="store_true", help="the labelled counts with more settings")
    parser.add_argument("--switch", action="store_true", help="alerts that a switch of the head causes")
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
        first = 0 if arguments.half == "tune" else 1_000
        seeds = range(first, first + arguments.num)
        if arguments.switch:
            columns = [
                "second head",
                "tweets named differently",
                "switches",
                "new alerts told, same rows",
                "past alerts of one head alone, of the second alone",
                "next bucket: told by the first head, by the second, by both, not told again",
            ]
            rows = switch_rows(arguments.data, arguments.cache, seeds, settings)
            print_table("airline_tweets, a switch of the head after each bucket", columns, rows)
            return
        tweets = named_tweets(arguments.data, arguments.cache)
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
