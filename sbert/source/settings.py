"""Settings of the source: which columns, how large the blocks, how large the units of work."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sbert.errors import SettingsError
from sbert.source.passages.settings import PassageSettings, PassagesOf

__all__ = ["CsvSettings", "Encoding", "ReadSettings", "SourceSettings", "SplitSettings"]

Encoding = Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "windows-1252"]
"""Encodings of text that can be named."""

MIB = 2**20
ColumnType = Annotated[
    str,
    Field(
        pattern=r"^(string|int32|int64|float32|float64|bool|date|datetime|datetime_utc|decimal\([0-9]{1,2}, ?[0-9]{1,2}\))$"
    ),
]
FIRST_SETTINGS = {"text_column", "id_column", "keep_columns", "text_documents"}
"""Settings that every fingerprint holds, at their defaults too. This set must never change."""


class CsvSettings(BaseModel):
    """The dialect of CSV; an empty setting is told by looking at the first megabyte of each object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        title="Delimiter",
        description="Character between the values, such as ; or | or tab; empty to tell it by looking.",
    )
    quote: str | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        title="Quote",
        description="Character around values that hold delimiters, or none where there is no quoting; empty to tell it by "
        "looking.",
    )
    header: bool | None = Field(
        default=None,
        title="Header",
        description="Whether the first record names the columns. Columns without a header are called column_1, column_2, …. "
        "Empty: there is no header where only such names are asked for and the first record has none of them.",
    )

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value in {"tab", "\\t"} else value
        if value is not None and (len(value) != 1 or value in "\r\n\"'"):
            raise SettingsError(f"source.csv.delimiter is {value!r}: give one character, or tab")
        return value

    @field_validator("quote")
    @classmethod
    def _one_quote(cls, value: str | None) -> str | None:
        if value is not None and value != "none" and (len(value) != 1 or value in "\r\n"):
            raise SettingsError(f"source.csv.quote is {value!r}: give one character, or none")
        return value


class SourceSettings(BaseModel):
    """The columns that are read. Every field decides the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str = Field(
        default="text",
        min_length=1,
        description="Column that holds the text, or a template over columns and nested fields such as {title}. {body} or "
        "{doc.summary}; empty parts are left out with their punctuation.",
    )
    id_column: str | None = Field(
        default=None,
        description="Column that holds the row's id, or a template over columns; empty for the column id where there is "
        "one, else derived.",
    )
    keep_columns: tuple[str, ...] = Field(default=(), description="Source columns to keep in the table.")
    text_documents: Literal["line", "file"] = Field(
        default="line", description="Whether each line of a .txt object is a document, or the whole object."
    )
    passages: PassageSettings | None = Field(
        default=None, description="How documents are cut into passages; empty to cut no rows."
    )
    format: str | None = Field(
        default=None,
        title="Format",
        description="Format of the objects whose names do not say it, such as jsonl, csv or txt; empty to pass such objects "
        "over.",
    )
    encoding: Encoding | None = Field(
        default=None,
        title="Encoding",
        description="Encoding of all text objects; empty to tell it by looking: UTF-8, UTF-16 by its byte-order mark, and "
        "for CSV and plain text windows-1252.",
    )
    csv: CsvSettings = Field(default_factory=CsvSettings, title="CSV", description="How records of CSV are written.")

    folder_keys: bool = Field(
        default=True,
        title="Folder keys",
        description="Whether folders named key=value give columns, which can be kept or be the text or the id.",
    )
    column_types: dict[str, ColumnType] = Field(
        default={},
        title="Column types",
        description="Types of kept columns by name, in place of those that the objects show: string, int32, int64, float32, "
        "float64, bool, date, datetime (no zone), datetime_utc, or decimal(precision, scale). Values that do not fit are "
        "null and counted.",
    )

    @property
    def cuts_passages(self) -> bool:
        """Return true if texts, or some of them, are cut into passages."""
        return self.passages is not None and self.passages.of is not PassagesOf.NOTHING

    def identity(self) -> dict[str, Any]:
        """Return the settings that are part of a fingerprint.

        A setting that is newer than the first tables counts only where it is not at its default, so that tables made
        before it existed keep their fingerprints.
        """
        return {
            **self.model_dump(mode="json", include=FIRST_SETTINGS),
            **self.model_dump(mode="json", exclude_defaults=True, exclude={"passages"}),
            **({"passages": self.passages.identity()} if self.passages and self.cuts_passages else {}),
        }


class ReadSettings(BaseModel):
    """Sizes of the data in memory at one time; no field changes a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block_rows: int = Field(
        default=8_192, ge=1, le=1_000_000, description="Rows that go through the stages together (rows)."
    )
    block_bytes: int = Field(
        default=8 * MIB, ge=1_024, le=1_024 * MIB, description="Raw text that is read at once (bytes)."
    )
    max_row_bytes: int = Field(
        default=64 * MIB,
        ge=1_024,
        le=1_024 * MIB,
        description="Longest row; longer ones are rejected (bytes).",
    )


class SplitSettings(BaseModel):
    """Sizes of the units of work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split_bytes: int = Field(
        default=64 * MIB,
        ge=1,
        le=100_000 * MIB,
        description="Larger objects are cut into slices of this size (bytes).",
    )
    pack_below_bytes: int = Field(
        default=MIB // 4,
        ge=0,
        le=1_024 * MIB,
        description="Smaller objects are packed with others of their folder (bytes).",
    )
    pack_bytes: int = Field(default=4 * MIB, ge=1, le=10_240 * MIB, description="Size that packs aim at (bytes).")
    pack_objects: int = Field(default=256, ge=1, le=100_000, description="Most objects that packs aim at (objects).")
