"""The consumers of a table: vector stores and derived tables, and which version each of them holds.

Each consumer's newest run leaves a small file in ``TABLE/_followers/``, without credentials. The files are for people: a run
that follows the table decides by what the consumer itself holds, never by these. `forget_follower` removes the file of a
consumer that is gone.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError, SbertError, SettingsError
from sbert.storage.files import delete, join, list_names, normalize_uri, read_bytes, write_bytes
from sbert.storage.redaction import redact
from sbert.table.commit_record import commit_info
from sbert.table.delta import Table

__all__ = [
    "FOLLOWERS_FOLDER",
    "Follower",
    "FollowerState",
    "followers_of",
    "forget_follower",
    "note_follower",
    "note_rows_left",
]

log = logging.getLogger(__name__)

FOLLOWERS_FOLDER = "_followers"


class Follower(BaseModel):
    """State of a consumer when it was last brought up to date or compared."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(description="Location of the store and the name in it, or the derived table.")
    kind: str = Field(description="Scheme of the store, or the job of a derived table.")
    version: int = Field(description="The table version that it holds.")
    num_rows: int = Field(description="Its rows.")
    has_own_rows: bool = Field(
        default=False,
        description="Whether its rows are others than those of the table, such as groups or cells of time.",
    )
    table_uri: str = Field(
        default="", description="Location that the table had when this was noted; empty in records of earlier releases."
    )
    followed_at: dt.datetime = Field(description="When it was brought to this version (UTC).")
    proven_version: int | None = Field(default=None, description="The newest version that was found equal row by row.")
    proven_at: dt.datetime | None = Field(default=None, description="When that comparison ended (UTC).")
    is_equal: bool | None = Field(
        default=None, description="Whether the newest comparison found both sides equal; None before the first."
    )


class FollowerState(Follower):
    """A consumer, compared with the newest version of the table."""

    newest_version: int
    is_elsewhere: bool = Field(
        default=False,
        description="Whether the table had another location when this was noted: it was copied or moved since, and a "
        "consumer of the original does not follow a copy.",
    )
    lag_versions: int = Field(
        description="Versions that it is behind; below 0 after a rollback of a copy of the table."
    )
    lag_minutes: float | None = Field(
        description="Time since the first version that it lacks was published (minutes); None when the log has lost it."
    )
    age_minutes: float | None = Field(
        description="Age of its newest rows: time since the version that it holds was published (minutes)."
    )
    coverage: float | None = Field(
        description="Its rows divided by the rows of the newest version; None for an empty table, and for rows of its own."
    )

    def describe_origin(self) -> str:
        """Return the location of the table that was noted, in words; empty where it is this one."""
        return f"{self.table_uri}, of which this table is a copy or was moved from" if self.is_elsewhere else ""

    def describe_lag(self) -> str:
        """Return how far it is behind, in words."""
        if self.lag_versions <= 0:
            return "none"
        since = "" if self.lag_minutes is None else f", {self.lag_minutes:,.0f} min"
        return f"{self.lag_versions:,} version{'s' if self.lag_versions > 1 else ''}{since}"

    def describe_coverage(self) -> str:
        """Return the coverage, in words; empty when it is not known."""
        return "" if self.coverage is None else f"{self.coverage:.1%}"

    def describe_age(self) -> str:
        """Return the age of the newest rows, in words; empty when it is not known."""
        return "" if self.age_minutes is None else f"{self.age_minutes:,.0f} min"

    def describe_proof(self) -> str:
        """Return the result of the newest comparison, in words."""
        if self.proven_at is None:
            return "differs" if self.is_equal is False else "none yet"
        proof = f"version {self.proven_version} on {self.proven_at:%Y-%m-%d %H:%M}"
        return f"differs now; {proof} was equal" if self.is_equal is False else proof


def note_follower(table_uri: str, follower: Follower) -> None:
    """Write or replace the file of a consumer; storage that refuses is logged, because nothing depends on the file."""
    follower = follower.model_copy(update={"name": redact(follower.name), "table_uri": normalize_uri(table_uri)})
    try:
        write_bytes(
            join(table_uri, FOLLOWERS_FOLDER, _file_name(follower.name)), follower.model_dump_json(indent=1).encode()
        )
    except SbertError as error:
        log.warning("%s: `sbert inspect` will not show %s as it is now: %s", table_uri, follower.name, error)


def note_rows_left(table_uri: str, name: str, num_rows: int, version: int | None = None) -> None:
    """Note the rows that a consumer has after an erasure; a consumer without a file stays without.

    Args:
        table_uri: the table.
        name: the consumer, as `followers_of` names it.
        num_rows: its rows now.
        version: the table version that it holds now; None when that did not change.
    """
    name = redact(name)
    try:
        follower = Follower.model_validate_json(read_bytes(join(table_uri, FOLLOWERS_FOLDER, _file_name(name))))
    except MissingError:
        return
    except (SbertError, ValidationError) as error:
        log.warning("%s: `sbert inspect` will not show %s as it is now: %s", table_uri, name, error)
        return
    changed = {"num_rows": num_rows} | ({} if version is None else {"version": version})
    note_follower(table_uri, follower.model_copy(update=changed))


def forget_follower(table: Table, name: str) -> FollowerState:
    """Remove the file of a consumer that is gone; return its content.

    The consumer itself is not touched. If it still runs, its next run writes the file again.

    Args:
        table: the table.
        name: the consumer, as `followers_of` names it; the folder of a derived table may be relative.

    Raises:
        SettingsError: the table has no such consumer.
        StorageError: storage refuses.
    """
    states = followers_of(table)
    names = {name, redact(name), *([] if "@" in name else [normalize_uri(name)])}
    follower = next((state for state in states if state.name in names), None)
    if follower is None:
        consumers = f"it has {', '.join(state.name for state in states)}" if states else "it has none"
        raise SettingsError(f"{table.uri}: the table has no consumer {redact(name)}: {consumers}")
    delete([join(table.uri, FOLLOWERS_FOLDER, _file_name(follower.name))])
    return follower


def _file_name(follower_name: str) -> str:
    return f"{hashlib.sha256(follower_name.encode()).hexdigest()[:16]}.json"


def followers_of(table: Table) -> list[FollowerState]:
    """Return the consumers of a table, ordered by name; a file that cannot be read is passed over."""
    folder = join(table.uri, FOLLOWERS_FOLDER)
    now = dt.datetime.now(dt.UTC)
    times: dict[int, float | None] = {}

    def minutes_since(version: int) -> float | None:
        if version not in times:
            published = (commit_info(table.uri, version) or {}).get("timestamp")
            times[version] = None if published is None else round((now.timestamp() - published / 1000) / 60, 1)
        return times[version]

    num_rows = table.num_rows
    states = []
    for name in list_names(folder):
        try:
            follower = Follower.model_validate_json(read_bytes(join(folder, name)))
        except (SbertError, ValidationError) as error:
            log.warning("%s/%s cannot be read and is passed over: %s", folder, name, error)
            continue
        states.append(_state(follower, table, num_rows, minutes_since))
    return sorted(states, key=lambda state: state.name)


def _state(
    follower: Follower, table: Table, num_rows: int, minutes_since: Callable[[int], float | None]
) -> FollowerState:
    lag = table.version - follower.version
    return FollowerState(
        **follower.model_dump(),
        newest_version=table.version,
        is_elsewhere=follower.table_uri not in {"", table.uri},
        lag_versions=lag,
        lag_minutes=minutes_since(follower.version + 1) if lag > 0 else 0.0,
        age_minutes=minutes_since(follower.version),
        coverage=follower.num_rows / num_rows if num_rows and not follower.has_own_rows else None,
    )
