"""Short reasons for pairs that another application found: the greatest pairs of words, and warnings.

>>> from sbert.apply.explanation.reasons import explain_hits
>>> explain_hits(Table.open("data/table"), "reset my password", ["How do I get a new login?"])  # doctest: +SKIP
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.explanation.explain import Explainer, Explanation, Overlooked, WordPair
from sbert.encoder.side import Side
from sbert.table.delta import Table

__all__ = ["Reason", "explain_hits", "explain_pairs"]

NUM_PAIRS = 5


class Reason(BaseModel):
    """Why two texts are near, in brief."""

    model_config = ConfigDict(frozen=True)

    cosine: float = Field(description="In float32; the score of a table may differ in the third digit.")
    pairs: tuple[WordPair, ...] = Field(description="The pairs of words with the greatest parts of the cosine.")
    warnings: tuple[Overlooked, ...]

    @classmethod
    def of(cls, found: Explanation, num_pairs: int = NUM_PAIRS) -> "Reason":
        """Shorten an explanation."""
        return cls(cosine=round(found.cosine, 6), pairs=tuple(found.pairs[:num_pairs]), warnings=found.warnings)


def explain_hits(table: Table, query: str, texts: Sequence[str | None]) -> list[Reason | None]:
    """Return why each text was found for a query; None for a row that keeps no text.

    Raises:
        ModelError: the table's encoder cannot be loaded, or its vectors are no weighted sums of token vectors.
    """
    explainer = Explainer.of_table(table)
    sides = (Side.QUERY, Side.DOCUMENT)
    return [
        Reason.of(explainer.explain(query, text, sides=sides)) if text is not None and text.strip() else None
        for text in texts
    ]


def explain_pairs(explainer: Explainer, pairs: Sequence[tuple[str, str]]) -> list[Reason]:
    """Return why the two texts of each pair are near; both are rows of a table."""
    return [Reason.of(explainer.explain(left, right)) for left, right in pairs]
