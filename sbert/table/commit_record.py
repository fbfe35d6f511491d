"""Commits of the Delta log: what this library records in one (run id, encoder, counts, settings), and the shards moved."""

import json
from typing import Any, NamedTuple
from urllib.parse import unquote

from sbert.errors import MissingError
from sbert.storage.files import join, read_bytes

__all__ = [
    "METADATA_KEY",
    "RECORDED_SETTINGS",
    "MovedShards",
    "commit_info",
    "moved_shards",
    "recorded_at",
    "recorded_in",
]

METADATA_KEY = "sbert"
"""Entry of this library in a commit, and in the metadata of the ``embedding`` column."""
RECORDED_SETTINGS = "settings"
"""Entry of the record: the table's settings after the commit."""


class MovedShards(NamedTuple):
    """The shards that a commit adds to the table and removes from it, by name."""

    joined: frozenset[str]
    left: frozenset[str]


def commit_info(uri: str, version: int) -> dict[str, Any] | None:
    """Return the information of the commit of a version; None when the log no longer has the commit.

    The log is read directly: delta-rs numbers the history of a table that was opened at an earlier version wrongly.
    """
    lines = _lines(uri, version)
    if lines is None:
        return None
    infos = (json.loads(line).get("commitInfo") for line in lines if b'"commitInfo"' in line)
    return next((dict(info) for info in infos if info), {})


def moved_shards(uri: str, version: int) -> MovedShards | None:
    """Return the shards that the commit of a version moves; None when the log no longer has the commit."""
    lines = _lines(uri, version)
    if lines is None:
        return None
    actions = [json.loads(line) for line in lines if b'"add"' in line or b'"remove"' in line]
    return MovedShards(*(_paths(actions, kind) for kind in ("add", "remove")))


def _paths(actions: list[dict[str, Any]], kind: str) -> frozenset[str]:
    return frozenset(unquote(action[kind]["path"]) for action in actions if kind in action)


def _lines(uri: str, version: int) -> list[bytes] | None:
    try:
        return read_bytes(join(uri, "_delta_log", f"{version:020}.json")).splitlines()
    except MissingError:
        return None


def recorded_at(uri: str, version: int) -> dict[str, Any]:
    """Return this library's record in the commit of a version; empty when another writer made it, or it is gone."""
    return recorded_in(commit_info(uri, version) or {})


def recorded_in(commit_info: dict[str, Any]) -> dict[str, Any]:
    """Return this library's record in a commit: run id, encoder and counts; empty for other writers' commits."""
    recorded = commit_info.get(METADATA_KEY)
    return dict(json.loads(recorded)) if recorded else {}
