"""Bring the lists of all users up to date: read items and events, fit the model if need be, make the lists.

>>> from sbert.apply.recommendation.run import recommend
>>> report = recommend("data/items", "data/events", "data/lists")  # doctest: +SKIP

The model stays as it is from night to night, so only the lists of users with new events are made again, and those that a new
or changed item enters. The model is fitted anew when it is old, for other settings, for another encoder, or on request.
"""

import datetime as dt
import logging
import time

from pydantic import ConfigDict, Field

from sbert.apply.recommendation.events import Events, read_events
from sbert.apply.recommendation.items import Items
from sbert.apply.recommendation.job import Inputs, RecommendationJob
from sbert.apply.recommendation.model import (
    ModelRecord,
    RecommendationModel,
    find_models,
    load_model,
    remove_old_models,
    save_model,
)
from sbert.apply.recommendation.ranker import fit_ranker
from sbert.apply.recommendation.session_pairs import add_pairs, item_texts, known_pairs, session_pairs
from sbert.apply.recommendation.settings import RecommendationSettings
from sbert.apply.recommendation.signals import SIGNALS, places_of
from sbert.counted import counted
from sbert.derived.derived_table import find_output
from sbert.derived.part_table import derive_parts
from sbert.derived.run import DerivedReport
from sbert.errors import EmptySourceError, SettingsError, TableError
from sbert.index.words.settings import words_text_column
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["RecommendationReport", "recommend"]

log = logging.getLogger(__name__)


class RecommendationReport(DerivedReport):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    events_uri: str
    num_users: int = Field(description="Users with an event that could be used.")
    num_users_computed: int = Field(description="Users whose list was made in this run; all others were kept.")
    num_items: int = Field(description="Items of the table.")
    num_items_new: int = Field(description="Items without an event when the model was fitted.")
    num_events: int = Field(description="Events that could be used.")
    num_events_rejected: int = Field(description="Events that could not be used.")
    rejected: dict[str, int] = Field(description="Events that could not be used, by reason.")
    refitted: str = Field(description="Why the model was fitted in this run; empty if it was not.")
    model: str = Field(description="Fingerprint of the model.")
    fitted_at: dt.datetime = Field(description="When the model was fitted.")
    num_later_events: int = Field(description="Later events that weigh the signals; 0 if the weights are a guess.")
    weights: dict[str, float] = Field(description="Weight of each signal in the log-odds.")
    pairs_uri: str | None = Field(description="Folder of labels to which pairs of sessions are added, if any.")
    num_pairs_new: int = Field(description="Pairs that were added.")
    pairs_file: str = Field(description="The file that they were written to; empty if there is none.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        return (
            f"Version {self.version}: lists for {counted(self.num_users, 'user')}, {self.num_users_computed:,} computed"
        )


def recommend(
    items_uri: str,
    events_uri: str,
    out_uri: str,
    settings: RecommendationSettings | None = None,
    *,
    explain: bool = False,
    pairs_uri: str | None = None,
    concurrency: int = 1,
    now: dt.datetime | None = None,
    run_id: str | None = None,
) -> RecommendationReport:
    """Write the items of each user to the derived table at `out_uri`.

    Args:
        items_uri: the embeddings table of the items.
        events_uri: an object or a folder of events, in any format of raw text that has columns.
        out_uri: the derived table; made if it is not there.
        settings: columns of the events, model, lists, age of the model.
        explain: say why each item and the nearest item of the user's history are near.
        pairs_uri: folder of labels to which pairs of items of one session are added; by default none are made. The table
            must keep the text of the items.
        concurrency: parts of the output that are made at the same time.
        now: the present moment, with a zone; later events are rejected.
        run_id: name of the run; by default a new one.

    Raises:
        ColumnError: a column of the events is missing, or the items keep no text that could be explained or paired.
        EmptySourceError: there are no events, or none that can be used.
        LabelError: `pairs_uri` holds labels of another kind.
        SettingsError: `pairs_uri` is no folder.
        SourceError, StorageError: the events cannot be read.
        NotATableError, SettingsError, TableError: as `derive_parts`; the output is as it was.
    """
    began = time.monotonic()
    settings = settings or RecommendationSettings()
    now = now or dt.datetime.now(dt.UTC)
    if normalize_uri(items_uri) == normalize_uri(out_uri):
        raise SettingsError(f"{out_uri}: the output needs a folder of its own: name another one than the table's")
    table = Table.open(items_uri)
    text_column = None if pairs_uri is None else _text_column_for_pairs(table, pairs_uri)
    out_uri = normalize_uri(out_uri)
    find_output(out_uri, RecommendationJob.name)
    if explain:
        words_text_column(table)
    items = Items.read(table)
    if not len(items):
        raise TableError(f"{table.uri}: version {table.version} has no rows: run `sbert refresh` first")
    events = read_events(events_uri, items, settings.events, now)
    if events.taken.is_empty():
        raise EmptySourceError(
            f"{events_uri}: there is no event by which a user took an item of {table.uri} ({_reasons(events)}): "
            "check the columns in the settings (events), and that items are named by their id in the table"
        )
    model, reason = _model(table, items, events, out_uri, settings, now)
    inputs = Inputs(items, events, model)
    job = RecommendationJob.of(inputs, settings.lists, normalize_uri(events_uri), explain=explain)
    output = derive_parts(job, table.uri, out_uri, table_version=table.version, concurrency=concurrency, run_id=run_id)
    if reason:
        remove_old_models(out_uri)
    record = model.record
    pairs_file, num_pairs = "", 0
    if pairs_uri is not None and text_column is not None:
        texts_N = item_texts(items, table, text_column)
        pairs_file, num_pairs = add_pairs(session_pairs(events, items, texts_N, settings.sessions), pairs_uri)
    return RecommendationReport(
        **{**output.model_dump(), "seconds": round(time.monotonic() - began, 3)},
        events_uri=normalize_uri(events_uri),
        num_users=len(events.users),
        num_users_computed=inputs.num_users_computed,
        num_items=len(items),
        num_items_new=int((places_of(items.names, model.ranker.statistics.names_K16) < 0).sum()),
        num_events=len(events.rows),
        num_events_rejected=sum(events.rejected.values()),
        rejected=events.rejected,
        refitted=reason,
        model=model.fingerprint,
        fitted_at=record.fitted_at,
        num_later_events=record.num_later_events,
        weights=record.weights,
        pairs_uri=pairs_uri,
        num_pairs_new=num_pairs,
        pairs_file=pairs_file,
    )


def _text_column_for_pairs(table: Table, pairs_uri: str) -> str:
    """Return the kept column of the texts of items, after a check that the labels are pairs."""
    known_pairs(pairs_uri)
    return words_text_column(table)


def _model(
    table: Table, items: Items, events: Events, out_uri: str, settings: RecommendationSettings, now: dt.datetime
) -> tuple[RecommendationModel, str]:
    """Return the model, and the reason that it was fitted; empty for a stored model.

    The newest model beside the output counts, published or not: a run that was killed after the fit goes on with it.
    """
    stored = find_models(out_uri)
    reason = _reason_to_fit(stored[0][1] if stored else None, table, events, settings, now)
    if not reason:
        return load_model(out_uri, stored[0][0]), ""
    log.info("fitting a model: %s", reason)
    ranker = fit_ranker(events, items, settings.ranking)
    if not ranker.num_later_events:
        log.warning(
            "there are too few events to fit the weights of the signals: fixed weights are used, which are a guess"
        )
    record = ModelRecord(
        fitted_at=now,
        encoder_fingerprint=table.encoder.fingerprint,
        settings=settings.ranking,
        events=settings.events,
        num_events=len(events.rows),
        num_users=len(events.users),
        num_items=len(ranker.statistics.names_K16),
        num_later_events=ranker.num_later_events,
        weights={name: round(float(weight), 4) for name, weight in zip(SIGNALS, ranker.weights_S, strict=True)},
    )
    return save_model(out_uri, record, ranker), reason


def _reason_to_fit(
    record: ModelRecord | None, table: Table, events: Events, settings: RecommendationSettings, now: dt.datetime
) -> str:
    if record is None:
        return "first run"
    days = (now - record.fitted_at).total_seconds() / 86_400
    most = record.num_events * (1 + settings.refit_share)
    reasons = {
        "another encoder": record.encoder_fingerprint != table.encoder.fingerprint,
        "other settings": (record.settings, record.events) != (settings.ranking, settings.events),
        "asked for": settings.refit,
        f"it is {days:,.1f} days old, at most {settings.refit_days:,g} are allowed": days >= settings.refit_days,
        f"there are {len(events.rows):,} events, it knows {record.num_events:,}": len(events.rows) > most,
    }
    return next((reason for reason, is_true in reasons.items() if is_true), "")


def _reasons(events: Events) -> str:
    if events.rejected:
        return ", ".join(f"{count:,} rejected: {reason}" for reason, count in sorted(events.rejected.items()))
    return "items were only shown" if len(events.rows) else "no rows"
