"""`RecommendationJob`: the lists of users as a table of parts. A part holds the users of a bucket.

A list is decided by the model, the user's events, and the items. A part is named after these, so a part is written again
when one of its users has new events, or when items change. Within it, lists that nothing can have changed are copied
(`sbert.apply.recommendation.unchanged_lists`).
"""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, PrivateAttr

from sbert.apply.nearest_rows import Key
from sbert.apply.recommendation.events import Events, history_hashes
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.lists import Entry, make_list
from sbert.apply.recommendation.model import RecommendationModel
from sbert.apply.recommendation.ranker import blocks_of
from sbert.apply.recommendation.settings import ListSettings
from sbert.apply.recommendation.signals import Signals, UserHistories
from sbert.apply.recommendation.unchanged_lists import ScoreJoined, UnchangedLists, find_unchanged_lists, items_before
from sbert.apply.row_texts import RowTexts
from sbert.derived.derived_table import DerivedTable
from sbert.derived.part_table import PartJob, Parts, part_fingerprint
from sbert.explanation.reason_column import (
    EXPLANATION,
    REASONS,
    KnownReasons,
    ReasonColumn,
    RowPair,
    reasons_of_shards,
)
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table

__all__ = ["SCHEMA", "Inputs", "RecommendationJob"]

USERS_PER_PART = 4_096
MIN_PARTS = 8
SCORE_DECIMALS = 4
"""Scores are rounded: products of matrices differ in their last bits with the number of rows."""
REASON = pa.struct([("source", pa.string()), ("id", pa.string()), ("cosine", pa.float32())])
SCHEMA = pa.schema(
    [
        pa.field("user", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("text_hash", pa.binary()),
        pa.field("score", pa.float32()),
        pa.field("because", pa.list_(REASON)),
        pa.field("is_new", pa.bool_()),
        pa.field("history", pa.binary()),
    ]
)
"""`source`, `id` and `text_hash` are those of the item. `because` is the nearest item of the user's history. `is_new` says
that the item had no event when the model was fitted. `history` is a hash of the events that the list was made from. Where
reasons are asked for, a last column says why the item and the nearest item of the history are near."""


@dataclass
class Inputs:
    """The inputs of a run, and the count of its work."""

    items: Items
    events: Events
    model: RecommendationModel
    num_users_computed: int = 0
    """Users whose list was made in this run, not copied."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def histories(self) -> dict[str, bytes]:
        """Hash of the events of each user."""
        return dict(zip(self.events.users, history_hashes(self.events, self.items), strict=True))


class RecommendationJob(PartJob):
    """The items of each user by rank."""

    name: ClassVar[str] = "recommendation"

    model: str = Field(description="Fingerprint of the model in ``_recommender/``.")
    lists: ListSettings = Field(description="Length, places for new items, diversity.")
    events_uri: str = Field(description="The events.")
    explain: bool = Field(
        default=False,
        exclude_if=lambda value: not value,  # outputs of earlier releases stay as they are
        description="Say why each item and the nearest item of the user's history are near.",
    )
    _inputs: Inputs = PrivateAttr()

    @classmethod
    def of(cls, inputs: Inputs, lists: ListSettings, events_uri: str, *, explain: bool = False) -> "RecommendationJob":
        """Return the job on the inputs that were read."""
        job = cls(model=inputs.model.fingerprint, lists=lists, events_uri=events_uri, explain=explain)
        job._inputs = inputs
        return job

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the output columns."""
        return SCHEMA.append(pa.field(EXPLANATION, REASONS)) if self.explain else SCHEMA

    def fingerprint(self, table: Table) -> str:
        """Hash model, settings of the lists and encoder. Where the events lie does not matter."""
        parts = [self.name, str(self.code_version), self.model, self.lists.model_dump_json(), table.encoder.fingerprint]
        if self.explain:
            parts.append(f"explain {words_text_column(table)}")
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def parts(self, table: Table, before: DerivedTable | None) -> Parts:
        """Return a part for each bucket of users."""
        own = self.fingerprint(table)
        buckets = _buckets(self._inputs.events.users)
        names = {name: _content(users, self._inputs) for name, users in buckets.items()}
        usable = before if before is not None and before.info.job_fingerprint == own else None
        wanted = {part_fingerprint(name, content, own) for name, content in names.items()}
        reasons = _Reasons(table, before, wanted) if self.explain else None
        return Parts(names, _Maker(self._inputs, self.lists, usable, wanted, buckets, reasons).build)


def _buckets(users: list[str]) -> dict[str, list[str]]:
    """Return the users of each part; a user stays in a part unless the number of parts changes."""
    count = MIN_PARTS
    while count * USERS_PER_PART < len(users):
        count *= 2
    buckets: dict[str, list[str]] = {f"users {number} of {count}": [] for number in range(count)}
    names = list(buckets)
    for user in users:
        digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        buckets[names[int.from_bytes(digest, "little") % count]].append(user)
    return buckets


def _content(users: list[str], inputs: Inputs) -> str:
    digest = hashlib.sha256(inputs.items.digest.encode())
    for user in users:
        digest.update(user.encode("utf-8", "surrogatepass") + b"\0" + inputs.histories[user])
    return digest.hexdigest()


class _Reasons:
    """Says why items and items of a history are near; threads may share it."""

    def __init__(self, items: Table, before: DerivedTable | None, wanted: set[str]) -> None:
        self._texts = RowTexts(items, words_text_column(items))
        self._column = ReasonColumn(items)
        self._earlier_reasons = KnownReasons.of([]) if before is None else reasons_of_shards(before, wanted)

    def make(self, items: list[Key], because: list[Key]) -> pa.ListArray:
        """Return the column for rows that name these items, each with the nearest item of the history."""
        texts = self._texts.read({*items, *because})
        pairs = [RowPair(*other, texts[item], texts[other]) for item, other in zip(items, because, strict=True)]
        return self._column.make(pairs, self._earlier_reasons)


class _Maker:
    """Makes parts; threads may share it. The data for the lists is read when the first part is made."""

    def __init__(
        self,
        inputs: Inputs,
        settings: ListSettings,
        before: DerivedTable | None,
        wanted: set[str],
        buckets: dict[str, list[str]],
        reasons: _Reasons | None,
    ) -> None:
        self._inputs, self._settings, self._reasons = inputs, settings, reasons
        self._schema = SCHEMA if reasons is None else SCHEMA.append(pa.field(EXPLANATION, REASONS))
        self._before, self._wanted, self._buckets = before, wanted, buckets
        self._numbers = {user: number for number, user in enumerate(inputs.events.users)}
        self._opened: tuple[Signals, UserHistories, UnchangedLists | None] | None = None

    def build(self, name: str) -> Iterable[pa.Table]:
        """Return the rows of a part, ordered by user and rank."""
        with self._inputs.lock:
            if self._opened is None:
                self._opened = self._open()
        signals, users, old = self._opened
        everyone = set(self._buckets[name])
        kept = everyone & old.users() if old is not None else set()
        blocks = [self._schema.empty_table()]
        if old is not None:
            blocks += [rows.cast(self._schema) for rows in old.rows(kept, self._schema.names)]
        numbers = np.array(sorted(self._numbers[user] for user in everyone - kept), np.int64)
        blocks += [self._made(some, signals, users) for some in blocks_of(numbers, len(self._inputs.items))]
        with self._inputs.lock:
            self._inputs.num_users_computed += len(numbers)
        yield pa.concat_tables(blocks).sort_by([("user", "ascending"), ("rank", "ascending")])

    def _open(self) -> tuple[Signals, UserHistories, UnchangedLists | None]:
        inputs = self._inputs
        record, ranker = inputs.model.record, inputs.model.ranker
        signals = Signals(ranker.statistics, inputs.items, record.settings)
        events = inputs.events
        users = UserHistories(events.rows, len(events.users), len(inputs.items), record.settings)
        items_then = None if self._before is None else items_before(self._before)
        if self._before is None or items_then is None:
            return signals, users, None
        joined = inputs.items.not_in(items_then)
        score = ScoreJoined(ranker, signals, users, self._numbers, joined)
        old = find_unchanged_lists(
            self._before, self._wanted, inputs.histories, inputs.items, joined, score, self._settings
        )
        return signals, users, old

    def _made(self, some: npt.NDArray[np.int64], signals: Signals, users: UserHistories) -> pa.Table:
        """Make the lists of some users."""
        scores_BN = np.round(self._inputs.model.ranker.scores(signals, users, some), SCORE_DECIMALS)
        lines: list[tuple[int, int, Entry]] = []
        for user, scores_N in zip(some.tolist(), scores_BN, strict=True):
            history = np.sort(users.taken_UN[user].indices).astype(np.int64)
            if len(history):  # a user to whom items were only shown has no taste yet
                entries = make_list(scores_N, signals.vectors_ND, history, signals.is_new_N, self._settings)
                lines += [(user, rank, entry) for rank, entry in enumerate(entries, start=1)]
        return self._table(lines, signals)

    def _table(self, lines: list[tuple[int, int, Entry]], signals: Signals) -> pa.Table:
        inputs = self._inputs
        of_items = inputs.items.keys[[entry.item for _, _, entry in lines]]
        reasons = inputs.items.keys[[entry.because for _, _, entry in lines]]
        because = [
            [{"source": source, "id": item, "cosine": entry.nearness}]
            for (_, _, entry), (source, item) in zip(lines, reasons.select("source", "id").iter_rows(), strict=True)
        ]
        names = [inputs.events.users[user] for user, _, _ in lines]
        columns: list[pa.Array] = [
            pa.array(names, pa.string()),
            pa.array([rank for _, rank, _ in lines], pa.int32()),
            pa.array(of_items["source"].to_list(), pa.string()),
            pa.array(of_items["id"].to_list(), pa.string()),
            pa.array(of_items["text_hash"].to_list(), pa.binary()),
            pa.array([entry.score for _, _, entry in lines], pa.float32()),
            pa.array(because, pa.list_(REASON)),
            pa.array([bool(signals.is_new_N[entry.item]) for _, _, entry in lines], pa.bool_()),
            pa.array([inputs.histories[name] for name in names], pa.binary()),
        ]
        if self._reasons is not None:
            keys = [list(rows.select("source", "id").iter_rows()) for rows in (of_items, reasons)]
            columns.append(self._reasons.make(*keys))
        return pa.Table.from_arrays(columns, schema=self._schema)
