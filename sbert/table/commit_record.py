"""What this library records in a commit of the Delta log: run id, encoder, counts and the table's settings."""

import json
from typing import Any

from sbert.errors import MissingError
from sbert.storage.files import join, read_bytes

__all__ = ["METADATA_KEY", "RECORDED_SETTINGS", "commit_info", "recorded_at", "recorded_in"]

METADATA_KEY = "sbert"
"""Entry of this library in a commit, and in the metadata of the ``embedding`` column."""
RECORDED_SETTINGS = "settings"
"""Entry of the record: the table's settings after the commit."""


def commit_info(uri: str, version: int) -> dict[str, Any] | None:
    """Return the information of the commit of a version; None when the log no longer has the commit.

    The log is read directly: delta-rs numbers the history of a table that was opened at an earlier version wrongly.
    """
    try:
        lines = read_bytes(join(uri, "_delta_log", f"{version:020}.json")).splitlines()
    except MissingError:
        return None
    infos = (json.loads(line).get("commitInfo") for line in lines if b'"commitInfo"' in line)
    return next((dict(info) for info in infos if info), {})


def recorded_at(uri: str, version: int) -> dict[str, Any]:
    """Return this library's record in the commit of a version; empty when another writer made it, or it is gone."""
    return recorded_in(commit_info(uri, version) or {})


def recorded_in(commit_info: dict[str, Any]) -> dict[str, Any]:
    """Return this library's record in a commit: run id, encoder and counts; empty for other writers' commits."""
    recorded = commit_info.get(METADATA_KEY)
    return dict(json.loads(recorded)) if recorded else {}
