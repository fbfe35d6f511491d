"""Objects of the source, and slices of them."""

import datetime as dt
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Compression", "SourceObject", "Span"]


class Compression(StrEnum):
    """Compression of an object as a whole."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class SourceObject(BaseModel):
    """One object of the source."""

    model_config = ConfigDict(frozen=True)

    uri: str = Field(description="Where it is: an absolute local path, or a URI.")
    version: str = Field(
        description="Changes when the content does: the store's ETag, else size and modification time."
    )
    num_bytes: int
    modified: dt.datetime | None = None
    format: str = Field(description="Name of its format, such as jsonl.")
    compression: Compression = Compression.NONE
    unreadable: str = Field(
        default="", description="Why the object cannot be opened, as known from the listing; empty when it can."
    )


class Span(BaseModel):
    """A whole object, or a slice of it."""

    model_config = ConfigDict(frozen=True)

    object: SourceObject
    start: int | None = Field(default=None, description="First byte (JSON Lines) or row group (Parquet); None: all.")
    stop: int | None = Field(default=None, description="The byte or row group after the last.")
    first_row: int = Field(
        default=1, description="Number of the first row within the object; not part of the identity."
    )
    max_rows: int | None = Field(default=None, description="Rows after which the span is cut off; None: all.")

    def identity(self) -> list[str | int | None]:
        """Return everything that decides the rows: URI, version, start and stop, and the cut if there is one."""
        parts = [self.object.uri, self.object.version, self.start, self.stop]
        return parts if self.max_rows is None else [*parts, self.max_rows]
