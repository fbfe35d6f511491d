"""What a person can be asked to label. Imports nothing large: the command line offers it as a choice."""

from enum import StrEnum

__all__ = ["SuggestionKind"]


class SuggestionKind(StrEnum):
    """What is to be labelled; the kinds of labels that a person can be asked for."""

    CLASSES = "classes"
    """A text, to be given a class."""
    SCORED_PAIRS = "scored_pairs"
    """Two texts, to be given a score."""
