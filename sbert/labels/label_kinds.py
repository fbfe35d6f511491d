"""The kinds of labels and the columns of each kind."""

from enum import StrEnum

from sbert.encoder.side import Side

__all__ = ["ALIASES", "COLUMNS", "KEY_COLUMNS", "NLI_LABELS", "TEXT_COLUMNS", "LabelKind", "side_of"]


class LabelKind(StrEnum):
    """The kind of statement that one row of labels makes."""

    SCORED_PAIRS = "scored_pairs"
    """Two sentences and how alike they are."""
    PAIRS = "pairs"
    """An anchor (question, title, …) and a text that belongs to it."""
    TRIPLETS = "triplets"
    """A pair and a text that does not belong to the anchor."""
    NLI = "nli"
    """Premise, hypothesis, and whether the first entails the second."""
    CLASSES = "classes"
    """A text and its class."""
    TEXTS = "texts"
    """A text alone."""


COLUMNS: dict[LabelKind, tuple[str, ...]] = {
    LabelKind.SCORED_PAIRS: ("sentence1", "sentence2", "score"),
    LabelKind.TRIPLETS: ("anchor", "positive", "negative"),
    LabelKind.NLI: ("premise", "hypothesis", "label"),
    LabelKind.PAIRS: ("anchor", "positive"),
    LabelKind.CLASSES: ("text", "label"),
    LabelKind.TEXTS: ("text",),
}
"""Columns of each kind, in the order in which kinds are tried. A kind comes before kinds that have fewer of its columns."""

TEXT_COLUMNS: dict[LabelKind, tuple[str, ...]] = {
    kind: tuple(name for name in names if name not in {"score", "label"}) for kind, names in COLUMNS.items()
}
KEY_COLUMNS: dict[LabelKind, tuple[str, ...]] = {
    kind: tuple(name for name in names if name != "negative") for kind, names in TEXT_COLUMNS.items()
}
"""Text columns that decide the split of a row. Negatives do not: they are often mined and shared by many rows."""

QUERY_COLUMNS = frozenset({"anchor"})
"""Columns of texts that someone searches with. All other columns hold texts as a table holds them."""

NLI_LABELS = ("entailment", "neutral", "contradiction")
"""Labels in the order of the numbers 0, 1, 2 of SNLI and MultiNLI."""

ALIASES: dict[str, tuple[str, ...]] = {
    "sentence1": ("sentence_1", "sentence_a", "sentence1_text", "text1"),
    "sentence2": ("sentence_2", "sentence_b", "sentence2_text", "text2"),
    "score": ("similarity", "similarity_score"),
    "anchor": ("query", "question"),
    "positive": ("pos", "answer"),
    "negative": ("neg",),
    "label": ("category", "intent", "class", "gold_label"),
    "text": ("sentence", "utterance"),
}
"""Other names of a column, used when the column itself is missing."""


def side_of(column: str) -> Side:
    """Return the side that the texts of a label column are on: an anchor is a query, every other text a document."""
    return Side.QUERY if column in QUERY_COLUMNS else Side.DOCUMENT
