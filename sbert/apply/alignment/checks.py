"""Checks that a pair of sentences must pass to be translations: lengths, numbers in figures, languages."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from sbert.apply.alignment.languages import guess_language, majority

__all__ = ["NoMatch", "SentenceFacts", "facts_of", "failed_checks"]

FIGURES = re.compile(r"\d+")
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class NoMatch(StrEnum):
    """The reason that a row has no translation: the reason against its best candidate."""

    LENGTH = "length"
    """One text is far longer than the other, measured by what is usual for these two tables."""
    NUMBERS = "numbers"
    """Both texts hold numbers in figures, and the numbers differ."""
    LANGUAGE = "language"
    """One of the texts is in the language of the other table."""
    MARGIN = "margin"
    """The two rows are hardly nearer to each other than to other rows."""
    TAKEN = "taken"
    """All candidates belong to pairs with a greater margin."""


@dataclass(frozen=True)
class SentenceFacts:
    """The properties of N texts that the checks compare: 17 bytes each."""

    lengths: Int64
    """Characters; 0 if the text is not known."""
    numbers: Int64
    """A hash of the numbers in figures; 0 if there are none."""
    languages: npt.NDArray[np.str_]
    """Guesses; empty when unsure."""

    @property
    def language(self) -> str:
        """Return the language of most texts."""
        return majority(self.languages.tolist())


def facts_of(texts: Sequence[str | None]) -> SentenceFacts:
    """Return the facts of texts; nothing is checked of a text that is not known."""
    filled = [text or "" for text in texts]
    return SentenceFacts(
        lengths=np.array([len(text.strip()) for text in filled], np.int64),
        numbers=np.array([_number_hash(text) for text in filled], np.int64),
        languages=np.array([guess_language(text) for text in filled], dtype="U10"),
    )


def _number_hash(text: str) -> int:
    """Return a hash of all groups of figures, in ascending order: ``1.000`` and ``1,000`` have the same."""
    groups = sorted(group.lstrip("0") for group in FIGURES.findall(text))
    if not groups:
        return 0
    return int.from_bytes(hashlib.blake2b(" ".join(groups).encode(), digest_size=7).digest(), "big") + 1


def failed_checks(
    left: SentenceFacts, right: SentenceFacts, rows_P: Int64, columns_P: Int64, max_length_ratio: float
) -> dict[NoMatch, Bools]:
    """Return, for each check, which of P pairs fail it.

    Args:
        left: facts of the left rows.
        right: facts of the right rows.
        rows_P: the left row of each pair.
        columns_P: the right row of each pair.
        max_length_ratio: how much longer one text may be, after the usual ratio of both tables is taken out.
    """
    lengths = left.lengths[rows_P], right.lengths[columns_P]
    has_both = (lengths[0] > 0) & (lengths[1] > 0)
    usual = np.log(_median(left.lengths) / _median(right.lengths))
    distance = np.abs(np.log(np.maximum(lengths[0], 1) / np.maximum(lengths[1], 1)) - usual)
    numbers = left.numbers[rows_P], right.numbers[columns_P]
    ours, theirs = left.language, right.language
    is_foreign = np.zeros(len(rows_P), np.bool_)
    if ours and theirs and ours != theirs:
        is_foreign = (left.languages[rows_P] == theirs) | (right.languages[columns_P] == ours)
    return {
        NoMatch.LENGTH: has_both & (distance > np.log(max_length_ratio)),
        NoMatch.NUMBERS: (numbers[0] != numbers[1]) & (numbers[0] > 0) & (numbers[1] > 0),
        NoMatch.LANGUAGE: is_foreign,
    }


def _median(lengths: Int64) -> float:
    positive = lengths[lengths > 0]
    return float(np.median(positive)) if len(positive) else 1.0
