"""The part of the source that a backfill works on: objects by name and date, rows by number.

An object that is not chosen is treated like an object that cannot be read: it keeps the rows that it has.
"""

import datetime as dt
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.counted import counted
from sbert.errors import EmptySourceError, SettingsError
from sbert.source.objects import SourceObject, Span
from sbert.source.reading import read_span
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Split
from sbert.storage.files import base_name, normalize_uri

__all__ = ["Selection", "choose_objects", "cut_to_rows"]


class Selection(BaseModel):
    """The objects of the source that a backfill works on, and how many of their rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] = Field(
        default=(),
        description="Names or globs of the objects to work on (the path below RAW, the file name or the whole URI; * "
        "crosses folders); empty for all.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Globs of object names to leave out; they win over include."
    )
    since: dt.date | None = Field(default=None, description="Only objects modified on this day or later (UTC).")
    until: dt.date | None = Field(default=None, description="Only objects modified on this day or earlier (UTC).")
    limit: int | None = Field(
        default=None, ge=1, description="Only this many rows, the first of the chosen objects in order of their names."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise SettingsError(
                f"since {self.since} is after until {self.until}, so no object is chosen: exchange them"
            )
        for name, globs in (("include", self.include), ("exclude", self.exclude)):
            if any(not glob.strip() for glob in globs):
                raise SettingsError(f"{name} has an empty glob, which matches nothing: remove it")
        return self

    def describe(self) -> list[str]:
        """Return what it names, for people; empty when it leaves nothing out."""
        parts = [f"include {glob}" for glob in self.include]
        parts += [f"exclude {glob}" for glob in self.exclude]
        if self.since is not None:
            parts.append(f"modified since {self.since}")
        if self.until is not None:
            parts.append(f"modified until {self.until}")
        if self.limit is not None:
            parts.append(f"the first {counted(self.limit, 'row')}")
        return parts

    @property
    def is_everything(self) -> bool:
        """Return whether it leaves nothing out."""
        return self == Selection()


def choose_objects(objects: Sequence[SourceObject], selection: Selection, raw_uri: str) -> list[SourceObject]:
    """Return the objects that a selection chooses.

    Raises:
        EmptySourceError: when it chooses none; the message names an object of the source.
        SettingsError: when it has dates, and the store has no modification times.
    """
    root = normalize_uri(raw_uri)
    selected = [item for item in objects if _is_named(item.uri, root, selection) and _is_dated(item, selection)]
    if not selected:
        first, asked = objects[0], ", ".join(selection.describe())
        modified = "at an unknown time" if first.modified is None else f"{first.modified:%Y-%m-%d %H:%M:%S} UTC"
        raise EmptySourceError(
            f"{raw_uri}: the selection ({asked}) chooses none of {counted(len(objects), 'object')}; "
            f"the first object is {first.uri}, modified {modified}: change the globs or the dates"
        )
    return selected


def _is_named(uri: str, root: str, selection: Selection) -> bool:
    names = {uri, base_name(uri), uri.removeprefix(root).lstrip("/")}

    def matches(globs: Iterable[str]) -> bool:
        return any(name == glob or fnmatch.fnmatchcase(name, glob) for glob in globs for name in names)

    return (not selection.include or matches(selection.include)) and not matches(selection.exclude)


def _is_dated(item: SourceObject, selection: Selection) -> bool:
    if selection.since is None and selection.until is None:
        return True
    if item.modified is None:
        raise SettingsError(
            f"{item.uri}: the store has no modification time for it: choose by include and exclude instead of dates"
        )
    day = item.modified.astimezone(dt.UTC).date()
    return (selection.since is None or day >= selection.since) and (selection.until is None or day <= selection.until)


def cut_to_rows(splits: Sequence[Split], limit: int, source: SourceSettings, reading: ReadSettings) -> list[Split]:
    """Return the splits that hold the first `limit` rows; the last object of the last split may be cut.

    Rows are counted by reading up to the limit. Rejected rows count.
    """
    left, kept = limit, []
    for split in splits:
        spans: list[Span] = []
        for span in split.spans:
            if left <= 0:
                break
            num_rows = _count_rows(span, left, source, reading)
            spans.append(span if num_rows is not None else replace(span, max_rows=left))
            left -= left if num_rows is None else num_rows
        if spans:
            kept.append(Split(spans=tuple(spans), name=split.name))
    return kept


def _count_rows(span: Span, limit: int, source: SourceSettings, reading: ReadSettings) -> int | None:
    """Return the number of rows of a span, None when there are more than `limit`."""
    only_text = source.model_copy(update={"keep_columns": ()})
    kept: dict[str, pl.DataType] = {}
    num_rows = 0
    for block in read_span(replace(span, max_rows=None), only_text, reading, kept):
        num_rows += block.num_rows_read
        if num_rows > limit:
            return None
    return num_rows
