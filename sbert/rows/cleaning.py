"""Clean texts with Polars expressions, and hash the cleaned texts.

A chain of rules runs over whole columns, then again over the rows that changed, until no row changes. So cleaning is
idempotent by construction (``&amp;lt;b&amp;gt;`` needs several rounds). The settings switch rules on and off. Every
rejected row has a reason.
"""

import html
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import polars_hash as plh
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError
from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, original_of

__all__ = ["CleanedBlock", "CleaningSettings", "clean", "clean_texts", "hash_texts"]

MAX_ROUNDS = 32
"""Each round after the first removes one more layer of escaping. A text that needs more rounds keeps its last form."""

CONTROL = (
    r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\u00AD\u200B\u200E\u200F"
    r"\u202A-\u202E\u2060-\u2064\u2066-\u206F\uFEFF\uFFF9-\uFFFB]"
)
"""Control characters but tab and line ends, soft hyphens, zero-width space, direction marks, byte-order marks. Zero-width
joiners stay: emoji and several scripts need them."""
COMMENT = r"(?s)<!--.*?-->|<(script|style)\b[^>]*>.*?</(script|style)\s*>"
BLOCK_TAGS = (
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|hr"
    "|html|legend|li|main|nav|ol|option|p|pre|section|select|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul"
)
INLINE_TAGS = (
    "a|abbr|acronym|b|bdi|bdo|big|button|cite|code|del|dfn|em|font|i|iframe|img|input|ins|kbd|label|link|mark|meta|q|s|samp"
    "|script|small|span|strike|strong|style|sub|sup|svg|time|tt|u|var|video|wbr"
)
ATTRIBUTES = r"(\s+[a-zA-Z_:@][-a-zA-Z0-9_:.]*(\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'<>=`]+))?)*\s*/?"
BLOCK = rf"(?i)</?({BLOCK_TAGS}){ATTRIBUTES}>"
INLINE = rf"(?i)</?({INLINE_TAGS}){ATTRIBUTES}>"
ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
URL = r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>\"']*[^\s<>\"'.,;:!?)\]]"
EMAIL = r"(?i)\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b"

PLAIN = "!-%'-;=-?A-~"
"""Printable ASCII without ``<``, ``&`` and ``@``, as the inside of a character class."""
NOT_PLAIN = rf"[^ {PLAIN}]|  |^ | $|://|[wW]{{3}}"
"""A rule changes only texts that match this pattern. A text without a match is clean, so one search is enough."""


FIRST_SETTINGS = {
    "unicode_form",
    "strip_control_characters",
    "strip_html",
    "collapse_whitespace",
    "mask_urls",
    "mask_emails",
    "min_chars",
    "max_chars",
    "drop_duplicate_texts",
}
"""Settings that every fingerprint holds, at their defaults too. This set must never change."""


class CleaningSettings(BaseModel):
    """Cleaning rules for each text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unicode_form: Literal["NFC", "NFKC"] | None = Field(
        default="NFC", description="Unicode normalization form; empty for none."
    )
    strip_control_characters: bool = Field(
        default=True, description="Remove control, zero-width and direction characters."
    )
    strip_html: bool = Field(
        default=True, description="Remove tags of known HTML elements and comments, resolve entities."
    )
    collapse_whitespace: bool = Field(default=True, description="Make every run of white space one blank, and trim.")
    mask_urls: bool = Field(default=False, description="Replace web addresses by [URL].")
    mask_emails: bool = Field(default=False, description="Replace e-mail addresses by [EMAIL].")
    min_chars: int = Field(default=1, ge=1, le=1_000_000, description="Shorter texts are rejected (characters).")
    max_chars: int | None = Field(
        default=1_000_000, ge=1, description="Longer texts are rejected; empty for no limit (characters)."
    )
    drop_duplicate_texts: bool = Field(
        default=False, description="Reject rows whose cleaned text an earlier row of the same object has."
    )

    @model_validator(mode="after")
    def _check(self) -> "CleaningSettings":
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise SettingsError(
                f"max_chars is {self.max_chars}, below min_chars {self.min_chars}, so no text would be left: exchange them"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that are part of a fingerprint.

        A setting that is newer than the first tables counts only where it is not at its default, so that tables made
        before it existed keep their fingerprints.
        """
        return {
            **self.model_dump(mode="json", include=FIRST_SETTINGS),
            **self.model_dump(mode="json", exclude_defaults=True),
        }


@dataclass(frozen=True)
class CleanedBlock:
    """Rows with clean texts and their hashes, and the rows that were rejected."""

    rows: pl.DataFrame
    rejects: pl.DataFrame


def clean(rows: pl.DataFrame, settings: CleaningSettings) -> CleanedBlock:
    """Clean the column ``text`` of `rows` and add ``text_hash``; rows without usable text are rejected with a reason.

    Args:
        rows: columns source, row, id, text (String, not null) and any others; order is kept.
        settings: the rules.
    """
    cleaned = clean_texts(rows["text"], settings)
    length = cleaned.str.len_chars()
    reason: Any = (
        pl.when(length == 0)
        .then(pl.lit(RejectReason.EMPTY_TEXT.value))
        .when(length < settings.min_chars)
        .then(pl.lit(RejectReason.TOO_SHORT.value))
    )
    bound: Any = pl.when(length < settings.min_chars).then(pl.lit(f", at least {settings.min_chars} are needed"))
    if settings.max_chars is not None:
        reason = reason.when(length > settings.max_chars).then(pl.lit(RejectReason.TOO_LONG.value))
        bound = bound.when(length > settings.max_chars).then(pl.lit(f", at most {settings.max_chars} are allowed"))
    reasons = rows.select(reason.otherwise(None).alias("reason")).to_series()
    bad = reasons.is_not_null()
    kept = rows.with_columns(cleaned.alias("text"), hash_texts(cleaned).alias("text_hash"))
    if not bad.any():
        return CleanedBlock(kept, pl.DataFrame(schema=REJECT_SCHEMA))
    rejected = rows.with_columns(
        reasons.alias("reason"),
        pl.concat_str(length.cast(pl.String), pl.lit(" characters after cleaning"), bound.otherwise(pl.lit(""))).alias(
            "detail"
        ),
    ).filter(bad)
    rejects = rejected.select(
        "source",
        "row",
        "id",
        "reason",
        "detail",
        original_of(rejected.drop("reason", "detail")).alias("original"),
    )
    return CleanedBlock(kept.filter(~bad), rejects.cast(REJECT_SCHEMA))


def clean_texts(texts: pl.Series, settings: CleaningSettings) -> pl.Series:
    """Clean texts; a clean text stays as it is."""
    result, changed = texts, texts.str.contains(NOT_PLAIN).arg_true()
    for _ in range(1 + MAX_ROUNDS):
        if not len(changed):
            break
        before = result.gather(changed)
        after = _once(before, settings)
        moved = (after != before).arg_true()
        changed = changed.gather(moved)
        if len(changed):
            result = result.clone().scatter(changed, after.gather(moved))  # scatter works in place
    return result


def _once(texts: pl.Series, settings: CleaningSettings) -> pl.Series:
    """Apply every rule once."""
    if settings.strip_html:
        marked = (texts.str.contains("<", literal=True) | texts.str.contains("&", literal=True)).arg_true()
        if len(marked):
            texts = texts.clone().scatter(marked, _strip_html(texts.gather(marked)))  # scatter works in place
    value = pl.col("text")
    if settings.strip_control_characters:
        value = value.str.replace_all(CONTROL, "")
    if settings.unicode_form is not None:
        value = value.str.normalize(settings.unicode_form)
    if settings.mask_emails:
        value = value.str.replace_all(EMAIL, "[EMAIL]")
    if settings.mask_urls:
        value = value.str.replace_all(URL, "[URL]")
    if settings.collapse_whitespace:
        value = value.str.replace_all(r"[\s\p{Z}]+", " ").str.strip_chars()
    return texts.alias("text").to_frame().select(value).to_series()


def _strip_html(texts: pl.Series) -> pl.Series:
    stripped = texts.str.replace_all(COMMENT, " ").str.replace_all(BLOCK, " ").str.replace_all(INLINE, "")
    # The few different entities of a block are resolved by Python, the many texts by one multi-pattern replacement.
    entities = stripped.str.extract_all(ENTITY).explode().drop_nulls().unique(maintain_order=True).to_list()
    replacements = {entity: html.unescape(entity) for entity in entities}
    replacements = {entity: text for entity, text in replacements.items() if text != entity}
    return stripped.str.replace_many(list(replacements), list(replacements.values())) if replacements else stripped


def hash_texts(texts: pl.Series) -> pl.Series:
    """Return the first 16 bytes of the BLAKE3 hash of each text's UTF-8 bytes; the same on every machine."""
    digest = plh.col("text").chash.blake3().str.slice(0, 32).str.decode("hex")
    return texts.alias("text").to_frame().select(digest.alias("text_hash")).to_series()
