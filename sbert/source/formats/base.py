"""The interface of a format: everything that the pipeline, the labels and the label watcher ask of one."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import polars as pl

from sbert.errors import ColumnError
from sbert.rows.rejects import RejectReason
from sbert.source.objects import SourceObject, Span
from sbert.source.settings import CsvSettings, ReadSettings

__all__ = ["BadRecord", "ColumnRequest", "Hints", "RecordBlock", "SourceFormat", "missing_column", "there_are"]

SHOWN_COLUMNS = 30
"""At most this many columns are listed in a message."""
SHOWN_CHARACTERS = 100
"""Most characters of a name that a message shows."""
MAX_NAME_CHARACTERS = 64
"""Longer values are hardly names of columns."""
NEAR = 0.6
"""Least similarity (0 to 1, difflib) of a name that is offered in place of one that is not there."""


@dataclass(frozen=True)
class Hints:
    """Settings of a person about the way objects are written, and hints for telling the rest by looking."""

    encoding: str | None = None
    """Encoding of text; None to tell it by looking."""
    csv: CsvSettings = field(default_factory=CsvSettings)
    wanted: tuple[str, ...] = ()
    """Columns that the object must have; a header that has them shows how the object is written."""
    nested: tuple[str, ...] = ()
    """Fields such as ``doc.summary`` that templates name inside columns. The types of these columns tell their fields."""


@dataclass(frozen=True)
class ColumnRequest:
    """The columns that a reader asks for, by the source's names."""

    texts: tuple[str, ...]
    """Columns that hold one text a row; an array or an object there makes a bad record."""
    kept: tuple[str, ...] = ()
    """Columns whose values are kept as they are."""
    required: frozenset[str] = frozenset()
    """Columns that every object must have; any other column is null in an object that lacks it."""
    text_documents: Literal["line", "file"] = "line"
    """``line`` if each line of plain text is a document, ``file`` if the whole object is one."""
    csv_header: tuple[str, ...] = ()
    """Names of the columns of CSV objects without a header; empty when the first record is the header."""
    hints: Hints = field(default_factory=Hints)

    @property
    def columns(self) -> list[str]:
        """All names, each once."""
        return list(dict.fromkeys([*self.texts, *self.kept]))


class BadRecord(NamedTuple):
    """A record that is not a row."""

    row: int
    """Its number within the object, counted from 1."""
    reason: RejectReason
    detail: str
    original: bytes
    """The bytes of the record or of its value in the object; empty when they are not known."""


@dataclass(frozen=True)
class RecordBlock:
    """Some records of an object as the format reads them."""

    row_numbers: pl.Series
    """Number of each record within the object, counted from 1 (Int64)."""
    values: pl.DataFrame
    """A column for each name asked for. Columns of `texts` are String; the others have the format's own type, which
    is String in formats without types."""
    bad: list[BadRecord] = field(default_factory=list)
    outline: pl.Series | None = None
    """Of documents: the headings and pages of each (`sbert.source.passages.outline.OUTLINE`)."""


class SourceFormat(ABC):
    """The interface of a source format.

    To add a format, write a subclass and name it in `sbert.source.formats.all_formats`.
    """

    name: ClassVar[str]
    """Its name in settings, records and messages."""
    endings: ClassVar[tuple[str, ...]]
    """Endings of the names of its objects, in lower case, with the dot."""
    may_be_compressed: ClassVar[bool] = True
    """True if objects may be compressed as a whole (``.gz``, ``.zst``)."""
    has_columns: ClassVar[bool] = True
    """True if records have named columns."""
    null_is_empty: ClassVar[bool] = False
    """True if the format has no null, so that an empty value stands for one."""
    count_is_cheap: ClassVar[bool] = False
    """True if an object tells its number of records without being read."""
    is_document: ClassVar[bool] = False
    """True if an object is one document, which is cut into passages unless the settings say otherwise."""
    may_break_off: ClassVar[bool] = False
    """True if `read` raises `CutOffError` after the whole rows of an object that breaks off."""
    slices_are_bytes: ClassVar[bool] = False
    """True if the bounds of slices count bytes."""

    @abstractmethod
    def columns(self, item: SourceObject, head_bytes: int, hints: Hints) -> dict[str, pl.DataType] | None:
        """Return the names and types of an object's columns; None when it shows none.

        A format without types looks at the first `head_bytes` (decompressed), or at the whole object when this is 0. A
        column that shows only nulls there has the type Null.

        Raises:
            BrokenObjectError: when the object cannot be read.
        """

    @abstractmethod
    def count(self, item: SourceObject, read: ReadSettings, hints: Hints) -> int:
        """Return the number of an object's records, bad ones included, without interpreting them.

        Raises:
            BrokenObjectError: when the object cannot be read to its end.
        """

    @abstractmethod
    def read(self, span: Span, request: ColumnRequest, read: ReadSettings) -> Iterator[RecordBlock]:
        """Stream the records of a span; memory depends on `read`, not on the size of the object.

        Raises:
            ColumnError: when a required column is not there.
            BrokenObjectError: when the object cannot be read to its end.
            StorageError: when storage refuses.
        """

    def describe(self, item: SourceObject, hints: Hints) -> str:  # noqa: ARG002
        """Return how an object is written, for a plan; only its head is read. Empty when there is nothing to say.

        Raises:
            BrokenObjectError: when the object cannot be opened, or how it is written is uncertain.
        """
        return ""

    def slices(self, item: SourceObject, split_bytes: int) -> list[tuple[int, int]]:  # noqa: ARG002
        """Return the bounds of slices of about `split_bytes`; empty when the object is read as a whole.

        Bounds must depend on nothing but the object: they are part of a split's fingerprint.
        """
        return []

    def first_rows(self, item: SourceObject, starts: Sequence[int]) -> dict[int, int]:
        """Return the number of the first record of the slices that begin at `starts` (ascending).

        A format that returns slices overrides this too.
        """
        assert not starts, f"{item.uri}: {self.name} objects have no slices, asked for were those at {list(starts)}"
        return {}


def missing_column(uri: str, name: str, columns: Sequence[str], *, takes_templates: bool = True) -> ColumnError:
    """Return the error for a column that an object lacks: the columns there are, and the one that was likely meant.

    For the default text column, which nobody named, it says how to name another. For a name with a dot, it says how a
    value inside a column is named, where templates are taken.
    """
    remedy = ": name the column that holds the text with text_column (--text-column)" if name == "text" else ""
    column = name.split(".", 1)[0]
    if takes_templates and column != name and column in columns:
        remedy = (
            f": the value inside {column!r} is named {{{name}}}, with braces, in text_column and id_column; keep_columns "
            f"keeps {column!r} as a whole"
        )
    return ColumnError(f"{uri}: no column {name!r}, {there_are(columns, name)}{remedy}")


def there_are(columns: Sequence[str], name: str, *, kind: str = "columns") -> str:
    """Return the part of a message that lists the columns (or fields) there are, and names those most like `name`."""
    shown = ", ".join(repr(other[:SHOWN_CHARACTERS]) for other in columns[:SHOWN_COLUMNS]) or "(none)"
    more = f" and {len(columns) - SHOWN_COLUMNS} more" if len(columns) > SHOWN_COLUMNS else ""
    values = any(not other.strip() or len(other) > MAX_NAME_CHARACTERS or other[:1].isdigit() for other in columns)
    is_header = kind != "columns" or (not values and len(set(columns)) == len(columns))
    number = "" if is_header else " (a column of CSV without a header is named by its number, such as column_1)"
    return f"the {kind} are: {shown}{more}{_likely(name, columns)}{number}"


def _likely(name: str, columns: Sequence[str]) -> str:
    by_plain_name = {_plain_name(other): other for other in reversed(columns)}
    same = by_plain_name.get(_plain_name(name))
    if same is not None:
        is_only_case = same.casefold() == name.casefold()
        is_only_space = "".join(same.split()) == "".join(name.split())
        differs = "case" if is_only_case else "white space" if is_only_space else "case and white space"
        return f" (there is {same!r}, which differs in {differs}: name it exactly so)"
    nearest = difflib.get_close_matches(_plain_name(name), by_plain_name, n=3, cutoff=NEAR)
    return f" (nearest: {', '.join(repr(by_plain_name[near]) for near in nearest)})" if nearest else ""


def _plain_name(name: str) -> str:
    return " ".join(name.replace("\ufeff", "").casefold().split())
