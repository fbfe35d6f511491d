"""Measure recommendations on MovieLens: the last 20 % of each user's time, all items as candidates.

    python -m tests.benchmarks.recommendation quality DATA/movielens_small [--vectors vectors.npy] [--seeds 0 1 2]
    python -m tests.benchmarks.recommendation sessions DATA/movielens_small [--seeds 0 1 2]
    python -m tests.benchmarks.recommendation night [DATA/movielens_small | --users 20000 --items 10000 --events 400000]

`quality`: the texts of items are title and genres; tags are left out, for many were written in the test period. Everything is
tuned on an inner split of train by time, and fitted on train. ALS is that of the package `implicit`, where it is installed, else
ours. Cold items are those without an event in train; they are ranked among themselves. `sessions`: the same before and after
the encoder was tuned with pairs of items of the sessions of train. `night`: a full run, then 1 % new events, and the same lists
by a full run. The new events are the newest ratings, or made ones of 1 % of the users.
"""

import argparse
import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from sbert.apply.recommendation.events import Events, check_events, split_by_time
from sbert.apply.recommendation.factors import fit_factors, solve_factors
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.model import MODEL_FOLDER
from sbert.apply.recommendation.ranker import Ranker, blocks_of, fit_ranker
from sbert.apply.recommendation.run import recommend
from sbert.apply.recommendation.session_pairs import add_pairs, session_pairs
from sbert.apply.recommendation.settings import (
    EventColumns,
    RankingSettings,
    RecommendationSettings,
    SessionSettings,
)
from sbert.apply.recommendation.signals import SIGNALS, Signals, UserHistories
from sbert.derived.derived_table import DerivedTable
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.load import load_labels
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import print_table
from tests.support.made_texts import make_text_version

Float32 = npt.NDArray[np.float32]
Scores = Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]
"""Returns the scores of some users for all items."""
ALS = [(factors, penalty, alpha) for factors in (16, 32, 64) for penalty in (1.0, 10.0, 100.0) for alpha in (1.0, 5.0)]
"""Factors, regularization and alpha of the peer that are tried."""
HALF_LIVES = [(5.0, 1.0), (5.0, 2.0), (5.0, 4.0), (15.0, 2.0), (30.0, 2.0)]
"""Half-lives of profiles and of the latest events that are tried for the whole."""
MOVIELENS_COLUMNS = EventColumns(user="userId", item="movieId", time="timestamp", weight="rating")
PROFILES = [1.0, 3.0, 10.0, 30.0, 100.0, 1e6]
"""Half-lives that are tried for item vectors alone."""


class Part:
    """Events that are known, and later ones to find."""

    def __init__(self, earlier: pl.DataFrame, later: pl.DataFrame, users: list[str], items: Items) -> None:
        self.events = Events(users, earlier.with_columns(is_shown=pl.lit(value=False)), {})
        self.items = items
        self.shape = (len(users), len(items))
        self.later = later
        self.known_UN = self.matrix(earlier, earlier["weight"])
        self.wanted = {
            user: np.setdiff1d(wanted, self.known_UN[user].indices)
            for user, wanted in later.group_by("user").agg("item").sort("user").iter_rows()
        }

    def matrix(self, rows: pl.DataFrame, values: pl.Series) -> sp.csr_matrix:
        """Return users by items."""
        at = (rows["user"].to_numpy(), rows["item"].to_numpy())
        return sp.csr_matrix((values.to_numpy().astype(np.float32), at), shape=self.shape)

    def measure(self, scores: Scores, at: int = 10) -> npt.NDArray[np.float64]:
        """Return nDCG and recall of each user with later unseen items, shape (U, 2)."""
        qualities = []
        for user, values in self._scored(scores, [user for user, wanted in self.wanted.items() if len(wanted)]):
            values[self.known_UN[user].indices] = -np.inf
            best, wanted = np.argsort(-values, kind="stable")[:at], self.wanted[user]
            gains = np.isin(best, wanted) / np.log2(np.arange(2, at + 2))
            ideal = (1 / np.log2(np.arange(2, min(at, len(wanted)) + 2))).sum()
            qualities.append((gains.sum() / ideal, np.isin(best, wanted).sum() / len(wanted)))
        return np.array(qualities)

    def cold_recall(self, scores: Scores, at: int = 50) -> tuple[float, float, int, int]:
        """Return recall among cold items that were taken later, that of a random order, number of users and of items."""
        counts = np.bincount(self.events.rows["item"].to_numpy(), minlength=len(self.items))
        cold = np.intersect1d(np.flatnonzero(counts == 0), self.later["item"].to_numpy())
        wanted = {user: np.intersect1d(items, cold) for user, items in self.wanted.items()}
        users = [user for user, items in wanted.items() if len(items)]
        recalls = [
            np.isin(wanted[user], cold[np.argsort(-values[cold], kind="stable")[:at]]).mean()
            for user, values in self._scored(scores, users)
        ]
        return float(np.mean(recalls)), min(1.0, at / len(cold)), len(users), len(cold)

    def _scored(self, scores: Scores, users: list[int]) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        for some in blocks_of(np.array(users, np.int64), len(self.items)):
            for user, values in zip(some.tolist(), scores(some), strict=True):
                yield user, np.array(values, np.float64)

    def ranker(self, settings: RankingSettings) -> tuple[Scores, Ranker]:
        """Fit the whole."""
        ranker = fit_ranker(self.events, self.items, settings)
        signals = Signals(ranker.statistics, self.items, settings)
        users = UserHistories(self.events.rows, len(self.events.users), len(self.items), settings)
        return lambda some: ranker.scores(signals, users, some), ranker

    def popularity(self) -> Scores:
        """Return the number of events of each item."""
        counts = np.bincount(self.events.rows["item"].to_numpy(), minlength=len(self.items))
        return lambda some: np.broadcast_to(counts, (len(some), len(counts)))

    def vectors(self, half_life: float) -> Scores:
        """Return the cosine of each item with the profile of the user."""
        place = pl.len().over("user") - 1 - pl.int_range(pl.len()).over("user")
        decayed = self.events.rows.select((pl.col("weight") * 0.5 ** (place / half_life)).alias("d"))["d"]
        vectors_ND = unit_rows(self.items.vectors - self.items.vectors.mean(axis=0))
        profiles_UD = unit_rows(np.asarray(self.matrix(self.events.rows, decayed) @ vectors_ND))
        return lambda some: profiles_UD[some] @ vectors_ND.T

    def als(self, choice: tuple[int, float, float], seed: int) -> Scores:
        """Return products of factors, by `implicit` where it is installed."""
        num_factors, penalty, alpha = choice
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            _, items_NF = fit_factors(self.known_UN, num_factors, penalty, alpha, 10, seed)
            users_UF = solve_factors(self.known_UN, items_NF, penalty, alpha)
            return lambda some: users_UF[some] @ items_NF.T
        model = AlternatingLeastSquares(
            factors=num_factors, regularization=penalty, alpha=alpha, iterations=15, random_state=seed
        )
        model.fit(self.known_UN, show_progress=False)
        return lambda some: np.asarray(model.user_factors)[some] @ np.asarray(model.item_factors).T


def best_of(part: Part, choices: dict[Any, Callable[[], Scores]], name: str) -> Any:
    """Return the choice with the highest nDCG@10 on the later events of the inner split."""
    ndcg_by_choice = {}
    for choice, make in choices.items():
        ndcg_by_choice[choice] = float(part.measure(make())[:, 0].mean())
        print(f"dev nDCG@10 of {name} {choice}: {ndcg_by_choice[choice]:.4f}", flush=True)
    return max(ndcg_by_choice, key=lambda choice: ndcg_by_choice[choice])


def interval(values: npt.NDArray[np.float64]) -> str:
    """Return the mean and its 95 % interval, by the standard error over users."""
    return f"{values.mean():.4f} ± {1.96 * values.std() / len(values) ** 0.5:.4f}"


@dataclass(frozen=True)
class MovieLens:
    """Films and ratings."""

    texts: list[str]
    keys: pl.DataFrame
    ratings: pl.DataFrame

    def parts(self, items: Items) -> tuple[Part, Part]:
        """Return the inner split of train, and train with the last 20 % of each user's time."""
        events = check_events(self.ratings, items, MOVIELENS_COLUMNS, dt.datetime.now(dt.UTC))
        train, test = split_by_time(events.taken, 0.2)
        return Part(*split_by_time(train, 0.2), events.users, items), Part(train, test, events.users, items)


def read_movielens(data: Path) -> MovieLens:
    """Read films and ratings."""
    movies = pl.read_csv(data / "movies.csv", infer_schema=False).sort("movieId")
    ids = movies["movieId"].to_list()
    texts = [f"{title}. {genres.replace('|', ', ')}" for title, genres in movies.select("title", "genres").iter_rows()]
    keys = pl.DataFrame({"source": "movies", "id": ids, "text_hash": [text.encode() for text in texts]})
    return MovieLens(texts, keys, pl.read_csv(data / "ratings.csv", columns=[0, 1, 2, 3], infer_schema=False))


def measure_sessions(data: Path, seeds: list[int]) -> None:
    """Tune the encoder with the pairs of the sessions of train, and print the quality of its vectors before and after."""
    movielens = read_movielens(data)
    encoder = SentenceEncoder.from_pretrained(DEFAULT_MODEL)
    table = []

    def measure(name: str, vectors_ND: Float32, seed: int) -> Part:
        part = movielens.parts(Items(movielens.keys, vectors_ND))[1]
        scores = part.ranker(RankingSettings(seed=seed))[0]
        for kind, ranking in (("item vectors alone", part.vectors(10.0)), ("the whole", scores)):
            quality = part.measure(ranking)
            cold = part.cold_recall(ranking)[0]
            table.append([f"{name}, {kind}, seed {seed}", *map(interval, quality.T), f"{cold:.3f}"])
        return part

    before = measure("before", encoder.encode(movielens.texts, side="document"), seeds[0])
    pairs = session_pairs(before.events, before.items, pl.Series(movielens.texts), SessionSettings())
    with tempfile.TemporaryDirectory() as folder:
        add_pairs(pairs, folder)
        labels = load_labels(folder)
    print(f"{pairs.height:,} pairs of sessions: {labels.account()}", flush=True)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            result = train_encoder(DEFAULT_MODEL, labels, TrainingSettings(seed=seed), folder)
            tuned = SentenceEncoder.from_pretrained(result.folder)
            print(f"seed {seed}: dev {result.dev_before:.4f} to {result.dev_best:.4f}", flush=True)
            measure("after", tuned.encode(movielens.texts, side="document"), seed)
    print_table(
        "MovieLens, later part, vectors before and after", ["ranking", "nDCG@10", "recall@10", "cold recall@50"], table
    )


def measure_quality(data: Path, vectors: Path | None, seeds: list[int]) -> None:
    """Tune on the inner split, then print each ranking on the later part."""
    movielens = read_movielens(data)
    vectors_ND = (
        SentenceEncoder.from_pretrained(DEFAULT_MODEL).encode(movielens.texts, side="document")
        if vectors is None
        else np.load(vectors)
    )
    inner, whole = movielens.parts(Items(movielens.keys, vectors_ND))

    def settings(choice: tuple[float, float], seed: int) -> RankingSettings:
        return RankingSettings(half_life_events=choice[0], half_life_next=choice[1], seed=seed)

    profile = best_of(inner, {each: lambda each=each: inner.vectors(each) for each in PROFILES}, "item vectors")  # type: ignore[misc]
    als = best_of(inner, {each: lambda each=each: inner.als(each, 0) for each in ALS}, "ALS")  # type: ignore[misc]
    lives = best_of(
        inner, {each: lambda each=each: inner.ranker(settings(each, 0))[0] for each in HALF_LIVES}, "the whole"
    )  # type: ignore[misc]
    table = []
    for seed in seeds:
        began = time.monotonic()
        scores, ranker = whole.ranker(settings(lives, seed))
        print(
            "weights",
            dict(zip(SIGNALS, ranker.weights_S.round(3).tolist(), strict=True)),
            "seconds",
            round(time.monotonic() - began, 1),
        )
        rankings = {"ALS, tuned": whole.als(als, seed), "the whole": scores}
        if seed == seeds[0]:
            rankings = {"popularity": whole.popularity(), "item vectors, tuned": whole.vectors(profile), **rankings}
        for name, ranking in rankings.items():
            quality = whole.measure(ranking)
            table.append([f"{name}, seed {seed}", interval(quality[:, 0]), interval(quality[:, 1])])
        print("cold: recall@50, random, users, items", whole.cold_recall(scores), flush=True)
    print_table("MovieLens, later part", ["ranking", "nDCG@10", "recall@10"], table)


@dataclass(frozen=True)
class Night:
    """Items in a folder, events of a first run, and those of the night after it."""

    first: pl.DataFrame
    later: pl.DataFrame
    columns: EventColumns


def made_night(items_uri: str, num_users: int, num_items: int, num_events: int) -> Night:
    """Write made items; return made events, and as many as 1 % of them by 1 % of the users."""
    random = np.random.default_rng(0)
    topics = random.normal(size=(50, 384))
    of_item = random.integers(0, 50, num_items)
    vectors = (topics[of_item] + random.normal(size=(num_items, 384))).astype(np.float32)
    taste = random.integers(0, 50, num_users)
    make_text_version(items_uri, {"made": [(str(item), f"item {item}", vector) for item, vector in enumerate(vectors)]})
    by_topic = [np.flatnonzero(of_item == topic) for topic in range(50)]

    def events(users: npt.NDArray[np.int64], begin: int) -> pl.DataFrame:
        own = [random.choice(by_topic[taste[user]]) for user in users]
        popular = (random.pareto(1.2, len(users)) * 20).astype(int) % num_items
        items = np.where(random.random(len(users)) < 0.8, own, popular)
        return pl.DataFrame({"user": users, "item": items, "time": begin + np.arange(len(users)), "type": "click"})

    first = events(random.integers(0, num_users, num_events), 1_600_000_000)
    later = events(random.integers(0, max(1, num_users // 100), num_events // 100), 1_700_000_000)
    return Night(first, later, EventColumns())


def movielens_night(items_uri: str, data: Path) -> Night:
    """Write the films; return the ratings, the newest 1 % apart."""
    movielens = read_movielens(data)
    vectors_ND = SentenceEncoder.from_pretrained(DEFAULT_MODEL).encode(movielens.texts, side="document")
    make_text_version(
        items_uri, {"movies": list(zip(movielens.keys["id"], movielens.texts, vectors_ND.tolist(), strict=True))}
    )
    ratings = movielens.ratings.sort(pl.col("timestamp").cast(pl.Int64), maintain_order=True)
    num_later = ratings.height // 100
    return Night(ratings.head(-num_later), ratings.tail(num_later), MOVIELENS_COLUMNS)


def measure_night(data: Path | None, num_users: int, num_items: int, num_events: int) -> None:
    """Time a full run and a night with 1 % new events, and compare its lists with those of a full run."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        items = str(place / "items")
        night = made_night(items, num_users, num_items, num_events) if data is None else movielens_night(items, data)
        (place / "events").mkdir()
        settings = RecommendationSettings(events=night.columns)

        def run(out: str) -> float:
            began = time.monotonic(), time.process_time()
            report = recommend(items, str(place / "events"), str(place / out), settings)
            seconds, of_cpu = time.monotonic() - began[0], time.process_time() - began[1]
            made = f"{report.num_users_computed:,} of {report.num_users:,} lists made, {report.num_rows:,} rows"
            print(f"{out}: {seconds:.1f} s, {of_cpu:.1f} s of CPU, {made}", flush=True)
            return of_cpu

        night.first.write_parquet(place / "events" / "a.parquet")
        full = run("lists")
        print(f"no change / full run: {run('lists') / full:.2%} of the CPU time")
        night.later.write_parquet(place / "events" / "b.parquet")
        print(f"night / full run: {run('lists') / full:.2%} of the CPU time")
        shutil.copytree(place / "lists" / MODEL_FOLDER, place / "all lists by the same model" / MODEL_FOLDER)
        run("all lists by the same model")
        mine, whole = (
            DerivedTable.open(str(place / out)).scan().collect().sort("user", "rank")
            for out in ("lists", "all lists by the same model")
        )
        columns = ["user", "rank", "source", "id", "is_new", "history"]
        same = mine.select(columns).equals(whole.select(columns))
        print(f"same lists: {same}; scores differ by at most {(mine['score'] - whole['score']).abs().max():.5f}")


def main() -> None:
    """Run the measurements that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    quality = kinds.add_parser("quality")
    quality.add_argument("data", type=Path)
    quality.add_argument("--vectors", type=Path, default=None)
    quality.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    sessions = kinds.add_parser("sessions")
    sessions.add_argument("data", type=Path)
    sessions.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    night = kinds.add_parser("night")
    night.add_argument("data", type=Path, nargs="?", default=None)
    for name, value in (("users", 20_000), ("items", 10_000), ("events", 400_000)):
        night.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    if asked.kind == "quality":
        measure_quality(asked.data, asked.vectors, asked.seeds)
    elif asked.kind == "sessions":
        measure_sessions(asked.data, asked.seeds)
    else:
        measure_night(asked.data, asked.users, asked.items, asked.events)


if __name__ == "__main__":
    main()
