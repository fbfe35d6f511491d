"""Leases: a small file that says who works on a table, while the run lasts.

A lease is advice, for people and for `sbert vacuum`. It locks nothing: the log's commit decides between two runs. A
thread renews the lease, the run removes it at its end, and the lease of a run that died expires by itself.
"""

import datetime as dt
import getpass
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import SbertError
from sbert.storage.files import delete, join, list_names, normalize_uri, read_bytes, write_bytes

__all__ = ["LEASES_FOLDER", "Lease", "active_leases", "hold_lease"]

log = logging.getLogger(__name__)

LEASES_FOLDER = "_leases"
RENEW_SECONDS = 30.0
LIFE_SECONDS = 150.0
"""A lease that was not renewed for this long is of a run that died."""


class Lease(BaseModel):
    """A run at work on a table."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    operation: str = Field(description="refresh, backfill, compact.")
    host: str
    pid: int
    user: str
    started: dt.datetime
    heartbeat: dt.datetime = Field(description="Time at which the run last showed that it lives.")
    expires: dt.datetime = Field(description="Time from which it counts as dead, unless it renews the lease.")

    def describe(self) -> str:
        """Return who works on the table, where and since when, in words."""
        return (
            f"{self.operation} {self.run_id} by {self.user} on {self.host} (process {self.pid}), begun "
            f"{self.started:%Y-%m-%d %H:%M:%S} UTC, last seen {self.heartbeat:%H:%M:%S}"
        )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def active_leases(table_uri: str, *, but: str | None = None) -> list[Lease]:
    """Return the leases of a table that have not expired, the oldest first, without the lease of run `but`."""
    folder = join(normalize_uri(table_uri), LEASES_FOLDER)
    leases = []
    for name in list_names(folder):
        if not name.endswith(".json"):
            continue
        with suppress(SbertError, ValidationError):  # removed meanwhile, or not a lease
            lease = Lease.model_validate_json(read_bytes(join(folder, name)))
            if lease.expires > _now() and lease.run_id != but:
                leases.append(lease)
    return sorted(leases, key=lambda lease: lease.started)


@contextmanager
def hold_lease(table_uri: str, run_id: str, operation: str) -> Iterator[list[Lease]]:
    """Show that a run works on a table while the block lasts; yields the leases of other runs.

    Raises:
        StorageError: when the first lease cannot be written; then the shards cannot be written either.
    """
    uri = join(normalize_uri(table_uri), LEASES_FOLDER, f"{run_id}.json")
    others = active_leases(table_uri, but=run_id)
    for other in others:
        log.warning("%s: another run is at work: %s; both go on, and the commit decides", table_uri, other.describe())
    started = _now()
    first = Lease(
        run_id=run_id,
        operation=operation,
        host=socket.gethostname(),
        pid=os.getpid(),
        user=_user(),
        started=started,
        heartbeat=started,
        expires=started + dt.timedelta(seconds=LIFE_SECONDS),
    )
    write_bytes(uri, first.model_dump_json(indent=1).encode())
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(uri, first, done), name="sbert-lease", daemon=True)
    renewer.start()
    try:
        yield others
    finally:
        done.set()
        renewer.join()
        try:
            delete([uri])
        except SbertError as error:
            log.warning("the lease %s could not be removed; it expires by itself: %s", uri, error)


def _renew(uri: str, lease: Lease, done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        now = _now()
        renewed = lease.model_copy(update={"heartbeat": now, "expires": now + dt.timedelta(seconds=LIFE_SECONDS)})
        try:
            write_bytes(uri, renewed.model_dump_json(indent=1).encode())
        except SbertError as error:
            log.warning("the lease %s could not be renewed: %s", uri, error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return str(os.getuid())
