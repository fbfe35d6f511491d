"""Objects of the source, and slices of them."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Compression", "SourceObject", "SourceTable", "Span"]


class Compression(StrEnum):
    """Compression of an object as a whole."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZ2 = "bz2"
    XZ = "xz"


class SourceTable(BaseModel):
    """A version of a table that is read as raw text, with the facts of its log about all its files."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    kind: str = Field(description="The table format as people call it: Delta Lake.")
    uri: str = Field(description="Folder of the table.")
    version: str = Field(description="The version that is read.")
    columns: dict[str, pl.DataType] = Field(description="Names and types of all columns, partition columns included.")
    stored_names: dict[str, str] = Field(
        default={}, description="Names in the files of columns that have another name there."
    )
    field_ids: dict[str, int] = Field(
        default={}, description="Ids in the files of columns that are found by id, not by name."
    )
    nested: dict[str, pa.Field] = Field(
        default={},
        description="Columns of structs and lists as the table's schema has them "
        "(`sbert.source.lake_tables.nested_columns`).",
    )


@dataclass(slots=True)
class SourceObject:
    """One object of the source. Nobody changes it.

    A source may have hundreds of thousands, so each takes little memory, and no time to be frozen: making frozen ones took a
    tenth of a plan.
    """

    uri: str
    """Where it is: an absolute local path, or a URI."""
    version: str
    """Changes when the content does: the store's ETag, else size and modification time."""
    num_bytes: int
    format: str
    """Name of its format, such as jsonl."""
    modified: dt.datetime | None = None
    compression: Compression = Compression.NONE
    unreadable: str = ""
    """Why the object cannot be opened, as known from the listing; empty when it can."""
    archive: str = ""
    """URI of the zip archive that the object is a member of."""
    member: str = ""
    """Its name in there."""
    values: Mapping[str, str | None] = field(default_factory=dict)
    """Columns with one value for all rows, which the object itself does not hold, as text."""
    table: SourceTable | None = None
    """The table that the object is a file of."""
    num_rows: int | None = None
    """Rows, deleted ones left out, where the table's log says it."""
    deleted_rows: str = ""
    """Rows that the table's log marks as deleted (`sbert.source.lake_tables.deleted_rows`)."""

    @property
    def is_stream(self) -> bool:
        """Whether it can only be read from its beginning, because it is compressed or packed."""
        return self.compression is not Compression.NONE or bool(self.archive)


@dataclass(slots=True)
class Span:
    """A whole object, or a slice of it. Nobody changes it."""

    object: SourceObject
    start: int | None = None
    """First byte, or row group (Parquet); None: all."""
    stop: int | None = None
    """The byte or row group after the last."""
    first_row: int = 1
    """Number of the first row within the object; not part of the identity."""
    max_rows: int | None = None
    """Rows after which the span is cut off; None: all."""

    def identity(self) -> list[str | int | None]:
        """Return everything that decides the rows: URI, version, start and stop, and the cut if there is one."""
        parts = [self.object.uri, self.object.version, self.start, self.stop]
        return parts if self.max_rows is None else [*parts, self.max_rows]
