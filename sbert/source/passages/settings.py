"""Settings for cutting documents into passages."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError

__all__ = ["PassageSettings", "PassagesBy", "PassagesOf"]

RULES = 1
"""Raised when the same settings would cut other passages than before, so that documents are cut anew."""


class PassagesOf(StrEnum):
    """Choice of the rows of a source that are cut."""

    EVERYTHING = "everything"
    """Each row is a document."""
    DOCUMENTS = "documents"
    """Objects that are one document each, such as Markdown. Rows of other objects stay whole."""
    NOTHING = "nothing"
    """Every text stays whole."""


class PassagesBy(StrEnum):
    """Places where a cut may fall while the sentences are not too long."""

    HEADINGS = "headings"
    """Always between two sections; inside a long section between paragraphs, else between sentences."""
    PARAGRAPHS = "paragraphs"
    """Between paragraphs, else between sentences. Short sections share a passage."""
    SENTENCES = "sentences"
    """Between any two sentences."""


class PassageSettings(BaseModel):
    """Settings for cutting documents into passages; every field decides the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: PassagesOf = Field(
        default=PassagesOf.EVERYTHING,
        description="Texts that are cut: everything (each row is a document), documents (objects such as Markdown), or "
        "nothing.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=16,
        le=131_072,
        description="Most tokens of a passage, with special tokens, prompt and heading path; empty for what the encoder "
        "takes (tokens).",
    )
    overlap_tokens: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="Most tokens that a passage repeats from the one before, in whole sentences (tokens).",
    )
    by: PassagesBy = Field(
        default=PassagesBy.HEADINGS, description="Where cuts may fall: headings, paragraphs, or sentences."
    )
    with_headings: bool = Field(
        default=True, description="Put the path of headings before the text of each passage when it is encoded."
    )

    @model_validator(mode="after")
    def _check(self) -> "PassageSettings":
        if self.max_tokens is not None and self.overlap_tokens > self.max_tokens // 2:
            raise SettingsError(
                f"overlap_tokens is {self.overlap_tokens}, max_tokens {self.max_tokens}: the overlap may have at most half "
                "of the tokens of a passage"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the passages of a document."""
        return {**self.model_dump(mode="json"), "rules": RULES}
