"""Consumers that the table has on record and that an erasure was not told to erase in."""

from collections.abc import Iterable

from sbert.counted import counted
from sbert.erase.receipt import PlaceReport
from sbert.storage.redaction import redact
from sbert.table.delta import Table
from sbert.table.followers import FollowerState, followers_of

__all__ = ["other_consumers"]


def other_consumers(table: Table, named: Iterable[str]) -> list[PlaceReport]:
    """Return a problem for each consumer on record that was not named, because it may hold erased rows.

    Args:
        table: the table.
        named: derived tables and stores that the erasure looks into, as `followers_of` names them.
    """
    seen = set(map(redact, named))
    return [
        PlaceReport(
            place="consumer on record",
            location=follower.name,
            action=f"not looked into; it had {counted(follower.num_rows, 'row')} on {follower.followed_at:%Y-%m-%d}",
            problem=_problem(table, follower),
        )
        for follower in followers_of(table)
        if follower.name not in seen
    ]


def _problem(table: Table, follower: FollowerState) -> str:
    option, forget = _option(follower.kind, follower.name), f"`sbert forget {table.uri} {follower.name}`"
    if not follower.is_elsewhere:
        return f"it may hold the rows: erase again with {option}, or, when it is gone, run {forget} first"
    return (
        f"it followed this table as {follower.table_uri}. If this table is a copy, the consumer is that of the original: "
        f"run {forget} first. If the table was moved, it may hold the rows: erase again with {option}"
    )


def _option(kind: str, name: str) -> str:
    """Return the option that names a consumer; the kind of a store is the scheme of its location."""
    return f"--destination {name}" if name.startswith(f"{kind}:") else f"--derived {name}"
