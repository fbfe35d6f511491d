"""The ranking of items for users: signals, weighed by a small model that is fitted on later behaviour."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.recommendation.choices import Choice, fit_weights
from sbert.apply.recommendation.events import Events, split_by_time
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.settings import RankingSettings
from sbert.apply.recommendation.signals import ItemStatistics, Signals, UserHistories, fit_statistics
from sbert.vectors.precision import Float32

__all__ = ["FIXED_WEIGHTS", "Ranker", "blocks_of", "fit_ranker"]

MIN_LATER_EVENTS = 10
"""Fewer later events cannot weigh the signals."""
MAX_FIT_CELLS = 6_000_000
"""Users times items on which the weights are fitted; the users are chosen by the seed."""
SHOWN_WEIGHT = 10.0
"""An item that was shown and not taken counts in the fit as much as so many that were not taken."""
BLOCK_CELLS = 4_000_000
"""Users times items whose scores are in memory at the same time, for each thread."""
FIXED_WEIGHTS = (4.0, 0.0, 0.0, 0.0, 0.5, 0.5, -0.5)
"""Weights that are used before there are enough later events; a guess."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranker:
    """Statistics of items, and the weights of the signals."""

    statistics: ItemStatistics
    weights_S: Float32
    """Weight of each signal, in the order of `SIGNALS`."""
    num_later_events: int
    """Later events that the weights were fitted on; 0 for the fixed weights."""

    def scores(self, signals: Signals, users: UserHistories, some: Int64, items: Int64 | None = None) -> Float32:
        """Return the scores of some users for items, shape (users, items), minus infinity for items that a user took.

        Args:
            signals: those of the items of a version, by this model's statistics.
            users: the histories.
            some: numbers of the users, few enough for the memory (`blocks_of`).
            items: numbers of the items; all if None.
        """
        scores_BN: Float32 = np.zeros((len(some), len(signals.is_new_N) if items is None else len(items)), np.float32)
        for weight, signal_BN in zip(self.weights_S, signals.of(users, some, items), strict=True):
            scores_BN += weight * signal_BN
        taken_BN = users.taken_UN[some] if items is None else users.taken_UN[some][:, items]
        scores_BN[taken_BN.nonzero()] = -np.inf
        return scores_BN


def blocks_of(users: Int64, num_items: int) -> Iterator[Int64]:
    """Yield users in blocks whose scores fit into memory."""
    size = max(1, min(256, BLOCK_CELLS // max(1, num_items)))
    for begin in range(0, len(users), size):
        yield users[begin : begin + size]


def fit_ranker(events: Events, items: Items, settings: RankingSettings) -> Ranker:
    """Return a ranker that knows all events.

    The signals are first computed without the later part of each user's events. The weights make the later items as likely
    as possible among all items that the user had not taken (`fit_weights`). Then the signals are computed from all events.
    With fewer than 10 later events the weights are fixed.
    """
    earlier, later = split_by_time(events.taken, settings.recent_share)
    statistics = fit_statistics(events.taken, len(events.users), items, settings)
    if len(later) < MIN_LATER_EVENTS:
        return Ranker(statistics, np.array(FIXED_WEIGHTS, np.float32), 0)
    begins = later.group_by("user").agg(begin=pl.col("moment").min())
    shown = events.rows.filter("is_shown").join(begins, on="user", how="left")
    is_before = (pl.col("moment") < pl.col("begin")).fill_null(value=True)
    earlier_taken = pl.concat(
        [
            earlier.with_columns(is_shown=pl.lit(value=False)),
            shown.filter(is_before).select(*earlier.columns, "is_shown"),
        ]
    ).sort("user", "moment", maintain_order=True)
    histories = UserHistories(earlier_taken, len(events.users), len(items), settings)
    signals = Signals(fit_statistics(earlier, len(events.users), items, settings), items, settings)
    choices = _choices(later, shown.filter(~is_before), signals, histories, settings)
    num_later = sum(len(choice.taken) for choice in choices)
    if num_later < MIN_LATER_EVENTS:
        return Ranker(statistics, np.array(FIXED_WEIGHTS, np.float32), 0)
    return Ranker(statistics, fit_weights(choices), num_later)


def _choices(
    later: pl.DataFrame, shown: pl.DataFrame, signals: Signals, histories: UserHistories, settings: RankingSettings
) -> list[Choice]:
    """Return the later choices of each user, and the items to choose among."""
    random = np.random.default_rng(settings.seed)
    num_items = len(signals.is_new_N)
    taken = dict(later.group_by("user").agg(pl.col("item").unique().sort()).sort("user").iter_rows())
    refused = dict(shown.group_by("user").agg(pl.col("item").unique().sort()).sort("user").iter_rows())
    users = np.array(list(taken), np.int64)
    most = max(1, MAX_FIT_CELLS // min(num_items, settings.num_negatives))
    if len(users) > most:
        users = np.sort(random.choice(users, most, replace=False))
    choices = []
    for some in blocks_of(users, num_items):
        of_block = signals.of(histories, some)
        for place, user in enumerate(some.tolist()):
            taken_before = histories.taken_UN[user].indices
            positives = np.setdiff1d(taken[user], taken_before)
            if not len(positives):
                continue
            others = np.setdiff1d(np.arange(num_items), np.concatenate([positives, taken_before]), assume_unique=False)
            drawn = others
            if len(others) > settings.num_negatives:
                drawn = np.sort(random.choice(others, settings.num_negatives, replace=False))
            offset_C = np.full(len(drawn), np.log(len(others) / max(1, len(drawn))), np.float32)
            offset_C[np.isin(drawn, refused.get(user, []))] += np.log(SHOWN_WEIGHT)
            compared = np.concatenate([positives, drawn])
            choices.append(
                Choice(
                    signals_CS=np.stack([signal[place, compared] for signal in of_block], axis=1),
                    offset_C=np.concatenate([np.zeros(len(positives), np.float32), offset_C]),
                    taken=np.arange(len(positives)),
                )
            )
    return choices
