"""Properties that every kind of table has: the runs that work on it, and the times of its commits."""

import datetime as dt
from typing import Any

__all__ = ["commit_time", "lease_properties"]


def lease_properties(leases: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return a line for each run that works on a table now."""
    return [
        ("at work", f"{lease['operation']} {lease['run_id'][:8]} by {lease['user']} on {lease['host']}")
        for lease in leases
    ]


def commit_time(entry: dict[str, Any]) -> str:
    """Return the time of an entry of the history, in UTC."""
    return f"{dt.datetime.fromtimestamp((entry['timestamp_ms'] or 0) / 1000, dt.UTC):%Y-%m-%d %H:%M}"
