"""Measure recommendations on MovieLens: the last 20 % of each user's time, all items as candidates.

    python -m tests.benchmarks.recommendation DATA/movielens_small [--vectors vectors.npy]

The texts of items are title and genres; tags are left out, for many were written in the test period. ALS is tuned on an
inner split of train by time. Cold items are those without an event in train; they are ranked among themselves.
"""

import argparse
import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.recommendation.events import check_events, split_by_time
from sbert.apply.recommendation.ranking import Ranker, fit_ranker
from sbert.apply.recommendation.settings import EventColumns, RankingSettings
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.benchmarks.harness import print_table

Scores = Callable[[int], npt.NDArray[Any]]
TUNED = [(8, 10.0, 1.0), (16, 30.0, 1.0), (32, 10.0, 5.0), (32, 100.0, 5.0), (64, 100.0, 1.0)]
"""Factors, regularization and alpha that are tried."""


def measure(scores: Scores, ranker: Ranker, later: pl.DataFrame, at: int = 10) -> npt.NDArray[np.float64]:
    """Return nDCG and recall of each user with later unseen items, shape (U, 2)."""
    found = []
    for (user,), events in later.group_by("user", maintain_order=True):
        seen = ranker.signals.seen_UN[int(str(user))].indices
        wanted = np.setdiff1d(events["item"].to_numpy(), seen)
        values = np.array(scores(int(str(user))), np.float64)
        values[seen] = -np.inf
        best = np.argsort(-values, kind="stable")[:at]
        gains = np.isin(best, wanted) / np.log2(np.arange(2, at + 2))
        ideal = (1 / np.log2(np.arange(2, min(at, len(wanted)) + 2))).sum()
        if len(wanted):
            found.append((gains.sum() / ideal, np.isin(best, wanted).sum() / len(wanted)))
    return np.array(found)


def cold_recall(ranker: Ranker, later: pl.DataFrame, at: int = 50) -> tuple[float, float, int]:
    """Return recall among cold items that were rated later, that of a random order, and their number."""
    cold = np.intersect1d(np.flatnonzero(~ranker.signals.is_known_N), later["item"].to_numpy())
    recalls = []
    for (user,), events in later.filter(pl.col("item").is_in(cold.tolist())).group_by("user", maintain_order=True):
        order = cold[np.argsort(-ranker.scores(int(str(user)))[cold], kind="stable")[:at]]
        wanted = events["item"].unique().to_numpy()
        recalls.append(np.isin(wanted, order).mean())
    return float(np.mean(recalls)), min(1.0, at / len(cold)), len(cold)


def interval(values: npt.NDArray[np.float64]) -> str:
    """Return the mean and its 95 % interval, by the standard error over users."""
    return f"{values.mean():.4f} ± {1.96 * values.std() / len(values) ** 0.5:.4f}"


def main() -> None:
    """Tune on train, then print each ranking on the later part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, default=None)
    asked = parser.parse_args()
    movies = pl.read_csv(asked.data / "movies.csv", infer_schema=False)
    items = movies["movieId"].to_list()
    texts = [f"{title}. {genres.replace('|', ', ')}" for title, genres in movies.select("title", "genres").iter_rows()]
    if asked.vectors is None:
        vectors_ND = SentenceEncoder.from_pretrained(DEFAULT_MODEL).encode(texts)
    else:
        vectors_ND = np.load(asked.vectors)
    names = EventColumns(user="userId", item="movieId", time="timestamp", weight="rating")
    ratings = pl.read_csv(asked.data / "ratings.csv", columns=[0, 1, 2, 3], infer_schema=False)
    events = check_events(ratings, items, names, dt.datetime.now(dt.UTC))
    users = len(events.users)
    train, test = split_by_time(events.rows, 0.2)
    inner, dev = split_by_time(train, 0.2)

    def settings(choice: tuple[int, float, float]) -> RankingSettings:
        return RankingSettings(num_factors=choice[0], regularization=choice[1], alpha=choice[2])

    def als(ranker: Ranker) -> Scores:
        return lambda user: ranker.signals.of(user)[:, 1]

    tuning = {}
    for choice in TUNED:
        ranker = fit_ranker(inner, users, vectors_ND, settings(choice))
        tuning[choice] = [float(measure(scores, ranker, dev)[:, 0].mean()) for scores in (als(ranker), ranker.scores)]
        print(choice, "dev nDCG@10 of ALS, of the whole", tuning[choice], flush=True)
    best_als = fit_ranker(train, users, vectors_ND, settings(max(TUNED, key=lambda choice: tuning[choice][0])))
    began = time.monotonic()
    ranker = fit_ranker(train, users, vectors_ND, settings(max(TUNED, key=lambda choice: tuning[choice][1])))
    seconds = time.monotonic() - began
    rankings: dict[str, Scores] = {
        "popularity": lambda _: ranker.signals.popularity_N,
        "item vectors": lambda user: ranker.signals.of(user)[:, 0],
        "ALS, tuned": als(best_als),
        "the whole": ranker.scores,
    }
    table = []
    for name, scores in rankings.items():
        found = measure(scores, ranker, test)
        table.append([name, interval(found[:, 0]), interval(found[:, 1])])
    print_table("MovieLens, later part", ["ranking", "nDCG@10", "recall@10"], table)
    print("weights", ranker.weights_S, "fit seconds", round(seconds, 1), "rejected", events.rejected)
    print("cold recall@50, random, number", cold_recall(ranker, test))


if __name__ == "__main__":
    main()
