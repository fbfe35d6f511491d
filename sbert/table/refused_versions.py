"""Versions that cannot be read any more because rows of theirs were erased.

An erasure removes every shard file that holds one of its rows. A version that names such a file cannot be read in full. So
it is refused, with the reason, and never read in part. Versions that name none of these files stay readable.
"""

import datetime as dt
import json
from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError, TableError
from sbert.storage.files import join, list_names, read_bytes, write_bytes
from sbert.table.tombstones import ERASED_FOLDER

__all__ = ["RefusedVersions", "check_not_refused", "read_refused", "refuse_versions", "versions_that_name"]

REFUSED_FOLDER = f"{ERASED_FOLDER}/refused"
LOG_FOLDER = "_delta_log"
COMMIT_DIGITS = 20


class RefusedVersions(BaseModel):
    """The versions that one erasure made unreadable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    erasure: str
    at: dt.datetime
    versions: tuple[int, ...] = Field(description="Versions that named a file which held erased rows.")


def read_refused(table_uri: str) -> list[RefusedVersions]:
    """Return the refused versions of every erasure: one listing where there are none."""
    folder = join(table_uri, REFUSED_FOLDER)
    refused = []
    for name in sorted(list_names(folder)):
        if name.endswith(".json") and not name.startswith("."):
            try:
                refused.append(RefusedVersions.model_validate_json(read_bytes(join(folder, name))))
            except (MissingError, ValidationError):
                continue  # the version is then refused by the file that is missing
    return refused


def check_not_refused(table_uri: str, version: int) -> None:
    """Raise when rows of a version were erased.

    Raises:
        TableError: naming the erasure and what to do.
    """
    for refused in read_refused(table_uri):
        if version in refused.versions:
            raise TableError(
                f"{table_uri}: version {version} held rows that were erased on {refused.at:%Y-%m-%d} (erasure "
                f"{refused.erasure}), and cannot be read any more: choose a later version"
            )


def refuse_versions(table_uri: str, erasure: str, versions: Collection[int]) -> tuple[int, ...]:
    """Note versions as refused, and keep the versions that the erasure noted before; return all of them."""
    before = [refused.versions for refused in read_refused(table_uri) if refused.erasure == erasure]
    every = tuple(sorted(set(versions).union(*before)))
    if every:
        refused = RefusedVersions(erasure=erasure, at=dt.datetime.now(dt.UTC), versions=every)
        write_bytes(join(table_uri, REFUSED_FOLDER, f"{erasure}.json"), refused.model_dump_json(indent=1).encode())
    return every


def versions_that_name(table_uri: str, files: Collection[str]) -> list[int]:
    """Return the versions that name one of `files`, as far as their commits are in the log.

    A file whose commit is no longer in the log was there from the first version that is.
    """
    folder = join(table_uri, LOG_FOLDER)
    commits = sorted(
        int(name.removesuffix(".json"))
        for name in list_names(folder)
        if len(name) == COMMIT_DIGITS + len(".json") and name.endswith(".json")
    )
    wanted = set(files)
    present: set[str] = set()
    added: set[str] = set()
    removed_first: dict[str, int] = {}
    naming: set[int] = set()
    for version in commits:
        for action in _actions(join(folder, f"{version:0{COMMIT_DIGITS}}.json")):
            if "add" in action and action["add"]["path"] in wanted:
                present.add(action["add"]["path"])
                added.add(action["add"]["path"])
            elif "remove" in action and action["remove"]["path"] in wanted:
                path = action["remove"]["path"]
                if path not in added:
                    removed_first.setdefault(path, version)
                present.discard(path)
        if present:
            naming.add(version)
    for end in removed_first.values():
        naming.update(version for version in commits if version < end)
    return sorted(naming)


def _actions(uri: str) -> list[dict[str, dict[str, str]]]:
    try:
        lines = read_bytes(uri).splitlines()
    except MissingError:  # cleaned up meanwhile
        return []
    return [json.loads(line) for line in lines if line.strip()]
