"""Choices of a head with their macro-F1 in cross-validation, and the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sbert.apply.classification.trained import HeadChoice

__all__ = [
    "MIN_WORDS_GAIN",
    "Candidate",
    "ScoredChoice",
    "Tried",
    "best_plain",
    "best_with_words",
    "told_choice",
    "value_of",
]

MIN_WORDS_GAIN = 0.005
"""Macro-F1 that words must add. There are more choices with words than without, so the best of them is better by chance."""

Tried = list[dict[str, float | str]]
Candidate = tuple[float, HeadChoice]
"""Macro-F1 and the choice that has it."""


@dataclass(frozen=True)
class ScoredChoice:
    """A choice of vectors alone, and the same with words where words are read."""

    plain: Candidate
    with_words: Candidate | None = None
    after_folds: Mapping[int, float] = field(default_factory=dict)
    """The value on the rows of the first fold (1), of the first two (2), and so on; empty where no search compares it."""

    @property
    def value(self) -> float:
        """The number by which a search compares choices."""
        return value_of(self.plain[0], None if self.with_words is None else self.with_words[0])

    @property
    def told(self) -> Tried:
        """The choices as the report shows them."""
        return [told_choice(*candidate) for candidate in (self.plain, self.with_words) if candidate is not None]


def value_of(macro_f1: float, macro_f1_with_words: float | None) -> float:
    """Return the macro-F1 of a choice, less what words must add where they are read.

    The choice with the largest value is the one that the rule takes: the best with words if these add `MIN_WORDS_GAIN` to
    the best of vectors alone, else the latter.
    """
    return macro_f1 if macro_f1_with_words is None else max(macro_f1, macro_f1_with_words - MIN_WORDS_GAIN)


def best_plain(scored: Sequence[ScoredChoice]) -> Candidate:
    """Return the best choice of vectors alone; of equals the first."""
    return _best([each.plain for each in scored])


def best_with_words(scored: Sequence[ScoredChoice]) -> Candidate | None:
    """Return the best choice with words, of equals the first; None where no words are read."""
    found = [each.with_words for each in scored if each.with_words is not None]
    return _best(found) if found else None


def told_choice(macro_f1: float, choice: HeadChoice) -> dict[str, float | str]:
    """Return a choice as the report shows it."""
    words = {"words": choice.word_weight, "word_strength": choice.word_strength} if choice.word_weight else {}
    return {"kind": choice.kind.value, "strength": choice.strength, **words, "macro_f1": round(macro_f1, 6)}


def _best(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda item: item[0])
