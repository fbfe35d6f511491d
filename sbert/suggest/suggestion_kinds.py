"""The kinds of labels that a person can be asked for. The module is small: the command line imports it at each start."""

from enum import StrEnum

__all__ = ["SuggestionKind"]


class SuggestionKind(StrEnum):
    """A kind of labels that a person can be asked for."""

    CLASSES = "classes"
    """A text that needs a class."""
    SCORED_PAIRS = "scored_pairs"
    """Two texts that need a score."""
