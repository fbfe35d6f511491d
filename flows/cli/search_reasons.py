"""``sbert search --explain``: which pairs of words make a hit near, and what the vectors overlook."""

from typing import TYPE_CHECKING, Any

from flows.cli.output import out

if TYPE_CHECKING:
    from sbert.table.delta import Table

__all__ = ["add_reasons", "show_reasons"]

KEY = "explanation"


def add_reasons(table: "Table", query: str, words_column: str | None, results: list[dict[str, Any]]) -> None:
    """Add the key ``explanation`` to hits.

    Raises:
        ColumnError: the table keeps no text.
    """
    from sbert.explanation.reasons import explain_hits
    from sbert.index.words.settings import words_text_column

    column = words_text_column(table, words_column)
    reasons = explain_hits(table, query, [hit[column] for hit in results])
    for hit, reason in zip(results, reasons, strict=True):
        hit[KEY] = None if reason is None else reason.model_dump(mode="json")


def show_reasons(results: list[dict[str, Any]]) -> None:
    """Print a line for each hit, and one for each warning."""
    for hit in results:
        if (reason := hit.get(KEY)) is None:
            continue
        pairs = ", ".join(f"{pair['left']} ~ {pair['right']} {pair['part']:+.3f}" for pair in reason["pairs"])
        out.print(f"{hit['id']}: {pairs}", markup=False)
        for warning in reason["warnings"]:
            out.print(
                f"  warning: the vectors overlook a difference: {warning['message']}", style="yellow", markup=False
            )
