"""The ranking of items for users: four signals, weighed by a small model that is fitted on later behaviour."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from sbert.apply.recommendation.events import split_by_time
from sbert.apply.recommendation.factors import fit_factors
from sbert.apply.recommendation.settings import RankingSettings
from sbert.errors import TooFewLabelsError
from sbert.vectors.precision import Float32

__all__ = ["SIGNALS", "Ranker", "Recommended", "Signals", "fit_ranker"]

SIGNALS = ("vectors", "factors", "popularity", "recency")
"""What is known of a user and an item, in the order of the model's weights."""
MIN_LATER_EVENTS = 10
"""Fewer later events cannot weigh four signals."""


@dataclass(frozen=True)
class Recommended:
    """One item of a user's list."""

    item: int
    score: float
    """Log-odds of the model."""
    because: int
    """The item of the user's history that is nearest by vectors."""


class Signals:
    """The signals of users and items, from events up to a moment."""

    def __init__(self, rows: pl.DataFrame, num_users: int, vectors_ND: Float32, settings: RankingSettings) -> None:
        """Compute profiles, factors, popularity and recency; no event outside `rows` counts."""
        shape = (num_users, len(vectors_ND))
        place = pl.len().over("user") - 1 - pl.int_range(pl.len()).over("user")
        rows = rows.with_columns(decay=0.5 ** (place / settings.half_life_events))
        at = (rows["user"].to_numpy(), rows["item"].to_numpy())
        self.seen_UN = sp.csr_matrix((rows["weight"].to_numpy().astype(np.float32), at), shape=shape)
        decayed_UN = sp.csr_matrix(((rows["weight"] * rows["decay"]).to_numpy().astype(np.float32), at), shape=shape)
        counts_N = np.bincount(rows["item"].to_numpy(), minlength=shape[1])
        self.is_known_N: npt.NDArray[np.bool_] = counts_N > 0
        mean_D = vectors_ND.mean(axis=0, keepdims=True)
        self.vectors_ND = _unit(vectors_ND - mean_D)
        self.profiles_UD = _unit(np.asarray(decayed_UN @ self.vectors_ND))
        self.users_UF, self.items_NF = fit_factors(
            self.seen_UN,
            settings.num_factors,
            settings.regularization,
            settings.alpha,
            settings.num_rounds,
            settings.seed,
        )
        self.popularity_N = np.log1p(counts_N).astype(np.float32)
        newest = rows.sort("moment").tail(max(1, len(rows) // 4))["item"].to_numpy()
        self.recency_N = np.log1p(np.bincount(newest, minlength=shape[1])).astype(np.float32)

    def of(self, user: int) -> Float32:
        """Return the signals of all N items for a user, shape (N, 4)."""
        return np.stack(
            [
                self.vectors_ND @ self.profiles_UD[user],
                self.items_NF @ self.users_UF[user],
                self.popularity_N,
                self.recency_N,
            ],
            axis=1,
        )


@dataclass(frozen=True)
class Ranker:
    """Signals and their weights."""

    signals: Signals
    weights_S: Float32
    """Weight of each signal, in the order of `SIGNALS`."""

    def scores(self, user: int) -> Float32:
        """Return the score of each item, shape (N,), minus infinity for items that the user has seen."""
        scores_N = self.signals.of(user) @ self.weights_S
        scores_N[self.signals.seen_UN[user].indices] = -np.inf
        return scores_N

    def recommend(self, user: int, k: int) -> list[Recommended]:
        """Return the k best unseen items of a user with at least one event; fewer if fewer are unseen."""
        scores_N = self.scores(user)
        order = np.argsort(-scores_N, kind="stable")[:k]
        best = [int(item) for item in order if np.isfinite(scores_N[item])]
        history = self.signals.seen_UN[user].indices
        if not len(history):
            return []
        nearest = (self.signals.vectors_ND[best] @ self.signals.vectors_ND[history].T).argmax(axis=1)
        return [
            Recommended(item, float(scores_N[item]), int(history[near]))
            for item, near in zip(best, nearest, strict=True)
        ]


def fit_ranker(rows: pl.DataFrame, num_users: int, vectors_ND: Float32, settings: RankingSettings) -> Ranker:
    """Return a ranker that knows all events.

    The signals are first computed without the later part of each user's events. The weights are fitted so that later
    items stand before random unseen ones. Then the signals are computed from all events.

    Args:
        rows: events, as `Events.rows`.
        num_users: number of users.
        vectors_ND: vectors of all N items, shape (N, dim).
        settings: settings of the model.

    Raises:
        TooFewLabelsError: fewer than 10 later events of users with earlier ones.
    """
    earlier, later = split_by_time(rows, settings.recent_share)
    if len(later) < MIN_LATER_EVENTS:
        raise TooFewLabelsError(
            f"events: {len(later)} later events to fit the ranking on, {MIN_LATER_EVENTS} are needed: give more events"
        )
    signals = Signals(earlier, num_users, vectors_ND, settings)
    random = np.random.default_rng(settings.seed)
    features, labels = [], []
    for (user,), events in later.group_by("user", maintain_order=True):
        items = events["item"].unique(maintain_order=True).to_numpy()
        of_user = signals.of(int(str(user)))
        others = random.integers(0, len(vectors_ND), len(items) * settings.num_negatives)
        others = others[~np.isin(others, np.concatenate([items, signals.seen_UN[int(str(user))].indices]))]
        features += [of_user[items], of_user[others]]
        labels += [np.ones(len(items)), np.zeros(len(others))]
    together = np.concatenate(features)
    spread_S = together.std(axis=0) + 1e-6
    model = LogisticRegression(max_iter=500).fit(together / spread_S, np.concatenate(labels))
    weights_S = (model.coef_[0] / spread_S).astype(np.float32)
    return Ranker(Signals(rows, num_users, vectors_ND, settings), weights_S)


def _unit(vectors_ND: Float32) -> Float32:
    """Return the vectors with length 1; a vector of zeros stays."""
    lengths_N = np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors_ND / lengths_N, np.float32)
