"""Texts, however they come, as a checked list."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from sbert.errors import SettingsError

__all__ = ["Texts", "as_list", "check_text"]

Texts: TypeAlias = pl.Series | pa.Array | pa.ChunkedArray | Sequence[str]


def as_list(texts: Texts) -> list[str]:
    """Return texts as a list of valid Unicode strings.

    Raises:
        SettingsError: when it is one string, or one of the texts is not a string or not valid Unicode. The message names its
            place, counted from 0.
    """
    if isinstance(texts, str):
        raise SettingsError("texts is one string, expected a list of strings: wrap it in [ ]")
    if not isinstance(texts, Iterable):
        raise SettingsError(f"texts is of type {type(texts).__name__}, expected a list of strings")
    listed: list[str] = texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else list(texts)
    for place, text in enumerate(listed):
        if type(text) is not str or not text.isascii():
            check_text(text, f"text {place}")
    return listed


def check_text(text: object, name: str) -> None:
    """Check that an object is a string of valid Unicode.

    Raises:
        SettingsError: when it is not; the message begins with `name`.
    """
    if not isinstance(text, str):
        actual = "None" if text is None else f"of type {type(text).__name__}: {str(text)[:80]!r}"
        raise SettingsError(f"{name} is {actual}, expected a string: leave it out, or give an empty string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{name} is not valid Unicode: character {error.start} is U+{ord(text[error.start]):04X}, half of a surrogate "
            'pair: decode the text again with errors="replace"'
        ) from error
