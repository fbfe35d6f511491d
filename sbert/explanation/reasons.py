"""Short reasons for pairs that another application found: the greatest pairs of words, and warnings.

>>> from sbert.explanation.reasons import explain_hits
>>> explain_hits(Table.open("data/table"), "reset my password", ["How do I get a new login?"])  # doctest: +SKIP
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.side import Side
from sbert.explanation.explain import KEPT_TEXTS, Explainer, Explanation, Overlooked, Prompts, WordPair
from sbert.table.delta import Table

__all__ = ["Reason", "explain_hits", "explain_pairs"]

NUM_PAIRS = 5
PAIRS_AT_ONCE = KEPT_TEXTS // 2


class Reason(BaseModel):
    """Why two texts are near, in brief."""

    model_config = ConfigDict(frozen=True)

    cosine: float = Field(description="In float32; the score of a table may differ in the third digit.")
    pairs: tuple[WordPair, ...] = Field(
        description="The pairs of words with the greatest parts of the cosine; none with a mark such as a full stop."
    )
    warnings: tuple[Overlooked, ...]

    @classmethod
    def of(cls, explanation: Explanation, num_pairs: int = NUM_PAIRS) -> "Reason":
        """Shorten an explanation."""
        return cls(
            cosine=round(explanation.cosine, 6),
            pairs=tuple(explanation.greatest_pairs(num_pairs, with_marks=False)),
            warnings=explanation.warnings,
        )


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


def explain_pairs(
    explainer: Explainer, pairs: Sequence[tuple[str, str]], *, prompts: Prompts | None = None
) -> list[Reason]:
    """Return why the two texts of each pair are near; both are rows of a table. Texts are encoded in batches.

    Args:
        explainer: divides the texts.
        pairs: none of the texts is empty.
        prompts: what is put before the left texts and before the right ones; by default what the encoder puts before
            documents.
    """
    before = prompts or explainer.document_prompts
    order = sorted(range(len(pairs)), key=lambda number: pairs[number][::-1])  # equal texts are divided once
    reasons: dict[int, Reason] = {}
    for first in range(0, len(order), PAIRS_AT_ONCE):
        some = order[first : first + PAIRS_AT_ONCE]
        explainer.read([pairs[number] for number in some], before)
        reasons |= {number: Reason.of(explainer.explain(*pairs[number], prompts=before)) for number in some}
    return [reasons[number] for number in range(len(pairs))]
