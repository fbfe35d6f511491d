"""The signals that say how well an item fits a user, from a model's statistics of items and from the user's own events.

A model knows the items that had events when it was fitted (K of them). An item that came later has its vector, and
zero for every other signal. A user is known by the own events alone, so a user needs no fit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from sbert.apply.recommendation.factors import fit_factors, solve_factors
from sbert.apply.recommendation.item_pairs import taken_next, taken_together
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.settings import RankingSettings
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["SIGNALS", "ItemStatistics", "Signals", "UserHistories", "fit_statistics", "places_of"]

SIGNALS = ("vectors", "factors", "together", "next", "popularity", "recency", "shown")
"""Signals of a user and an item, in the order of the model's weights."""
RECENT_SHARE = 0.25
"""Latest share of all events that the signal `recency` counts."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ItemStatistics:
    """Statistics of the K items of the events up to a moment."""

    names_K16: npt.NDArray[np.uint8]
    """Hash of source and id of each."""
    factors_KF: Float32
    popularity_K: Float32
    """Logarithm of the number of events."""
    recency_K: Float32
    """Logarithm of the events of each item in the latest quarter of all events."""
    together_KK: sp.csr_matrix
    """Weight of the column's item for users who took the row's item."""
    next_KK: sp.csr_matrix
    """How often the column's item came soon after the row's item."""
    mean_D: Float32
    """Mean vector of all items, which is subtracted from each vector."""


class UserHistories:
    """The events of some users: matrices of users by items."""

    def __init__(self, rows: pl.DataFrame, num_users: int, num_items: int, settings: RankingSettings) -> None:
        """Sum the events of each user with each item.

        Args:
            rows: columns `user`, `item`, `weight`, `is_shown`, ordered by user and time.
            num_users: number of users.
            num_items: number of items.
            settings: later events of the user after which an event counts half.
        """
        taken = rows.filter(~pl.col("is_shown"))
        place = pl.len().over("user") - 1 - pl.int_range(pl.len()).over("user")
        taken = taken.with_columns(
            decayed=pl.col("weight") * 0.5 ** (place / settings.half_life_events),
            latest=0.5 ** (place / settings.half_life_next),
        )
        shape = (num_users, num_items)
        self.taken_UN = _matrix(taken, taken["weight"], shape)
        """Weight of the items that each user took."""
        self.decayed_UN = _matrix(taken, taken["decayed"], shape)
        """The same, decayed by the events that came later."""
        self.latest_UN = _matrix(taken, taken["latest"], shape)
        """The same, decayed much faster and without weights."""
        shown = rows.filter("is_shown")
        shown_UN = _matrix(shown, pl.repeat(1.0, len(shown), eager=True), shape)
        self.shown_UN = sp.csr_matrix(shown_UN - shown_UN.multiply(self.taken_UN > 0))
        """Times that an item was shown to a user who never took it."""
        self.shown_UN.eliminate_zeros()


class Signals:
    """The signals of the items of a version, for any user."""

    def __init__(self, statistics: ItemStatistics, items: Items, settings: RankingSettings) -> None:
        """Find the items of the version that the statistics are about."""
        self._statistics, self._settings = statistics, settings
        self.known_N = places_of(items.names, statistics.names_K16)
        """Number of each item among the K known ones, shape (N,); -1 for a new item."""
        self.is_new_N = self.known_N < 0
        self.vectors_ND = unit_rows(items.vectors - statistics.mean_D)
        """Unit vectors of the items, shape (N, dim)."""
        with_events = np.flatnonzero(~self.is_new_N)
        self._choice_NK = sp.csr_matrix(
            (np.ones(len(with_events), np.float32), (with_events, self.known_N[with_events])),
            shape=(len(items), len(statistics.names_K16)),
        )
        self._factors_NF = np.asarray(self._choice_NK @ statistics.factors_KF, np.float32)
        self._popularity_N = np.asarray(self._choice_NK @ statistics.popularity_K, np.float32)
        self._recency_N = np.asarray(self._choice_NK @ statistics.recency_K, np.float32)

    def of(self, users: "UserHistories", some: Int64, items: Int64 | None = None) -> list[Float32]:
        """Return each signal of some users and items in the order of `SIGNALS`, shape (users, items).

        Args:
            users: the histories.
            some: numbers of the users, few enough that a matrix of them by the items fits into memory.
            items: numbers of the items; all if None.
        """
        some_items = slice(None) if items is None else items
        decayed_BN = users.decayed_UN[some]
        profiles_BD = unit_rows(np.asarray(decayed_BN @ self.vectors_ND, np.float32))
        settings = self._settings
        taken_BK = sp.csr_matrix(users.taken_UN[some] @ self._choice_NK)
        factors_BF = solve_factors(taken_BK, self._statistics.factors_KF, settings.regularization, settings.alpha)
        together_BK = sp.csr_matrix(decayed_BN @ self._choice_NK) @ self._statistics.together_KK
        next_BK = sp.csr_matrix(users.latest_UN[some] @ self._choice_NK) @ self._statistics.next_KK
        chosen_NK = self._choice_NK if items is None else self._choice_NK[items]
        shape = (len(some), chosen_NK.shape[0])
        return [
            profiles_BD @ self.vectors_ND[some_items].T,
            factors_BF @ self._factors_NF[some_items].T,
            np.asarray((together_BK @ chosen_NK.T).toarray(), np.float32),
            np.log1p((next_BK @ chosen_NK.T).toarray()).astype(np.float32),
            np.broadcast_to(self._popularity_N[some_items], shape),
            np.broadcast_to(self._recency_N[some_items], shape),
            np.log1p(users.shown_UN[some][:, some_items].toarray()).astype(np.float32),
        ]


def fit_statistics(rows: pl.DataFrame, num_users: int, items: Items, settings: RankingSettings) -> ItemStatistics:
    """Return the statistics of items by events; no event outside `rows` counts.

    Args:
        rows: events by which users took items, as `Events.taken`.
        num_users: number of users.
        items: the items.
        settings: settings of the model.
    """
    counts_N = np.bincount(rows["item"].to_numpy(), minlength=len(items))
    with_events = np.flatnonzero(counts_N)
    number_N = np.full(len(items), -1)
    number_N[with_events] = np.arange(len(with_events))
    numbered = rows.with_columns(item=pl.Series(number_N[rows["item"].to_numpy()], dtype=pl.Int64))
    taken_UK = _matrix(numbered, numbered["weight"], (num_users, len(with_events)))
    _, factors_KF = fit_factors(
        taken_UK, settings.num_factors, settings.regularization, settings.alpha, settings.num_rounds, settings.seed
    )
    newest = numbered.sort("moment", maintain_order=True).tail(max(1, int(len(rows) * RECENT_SHARE)))["item"].to_numpy()
    return ItemStatistics(
        names_K16=np.ascontiguousarray(items.names[with_events]),
        factors_KF=factors_KF,
        popularity_K=np.log1p(counts_N[with_events]).astype(np.float32),
        recency_K=np.log1p(np.bincount(newest, minlength=len(with_events))).astype(np.float32),
        together_KK=taken_together(taken_UK, settings.num_neighbours, settings.shrinkage),
        next_KK=taken_next(
            numbered["user"].to_numpy(), numbered["item"].to_numpy(), len(with_events), settings.num_neighbours
        ),
        mean_D=items.vectors.mean(axis=0),
    )


def _matrix(rows: pl.DataFrame, values: pl.Series, shape: tuple[int, int]) -> sp.csr_matrix:
    at = (rows["user"].to_numpy(), rows["item"].to_numpy())
    return sp.csr_matrix((values.to_numpy().astype(np.float32), at), shape=shape)


def places_of(names_N16: npt.NDArray[np.uint8], known_K16: npt.NDArray[np.uint8]) -> Int64:
    """Return the place of each name among the known ones; -1 where it is not among them."""
    names, known_names = (_halves(each) for each in (names_N16, known_K16))
    matched = names.join(known_names.with_row_index("at"), on=["a", "b"], how="left", maintain_order="left")
    return matched["at"].cast(pl.Int64).fill_null(-1).to_numpy()


def _halves(names_N16: npt.NDArray[np.uint8]) -> pl.DataFrame:
    halves_N2 = np.ascontiguousarray(names_N16).view(np.uint64)
    return pl.DataFrame({"a": halves_N2[:, 0], "b": halves_N2[:, 1]})
