"""An explanation as one HTML page: a picture of all pairs of words, the greatest pairs, and warnings."""

import numpy as np

from sbert.explanation.explain import ExplainedText, Explanation
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import Picture, as_picture, new_figure, plain

__all__ = ["explanation_page"]

MAX_WORDS = 40
"""Words of a text in the picture: those with the greatest parts, in their order."""
MAX_PAIRS = 20


def explanation_page(explanation: Explanation) -> str:
    """Return the page of an explanation."""
    warned = "; ".join(warning.message for warning in explanation.warnings)
    verdict = Verdict(f"The vectors overlook a difference: {warned}.", "bad") if warned else None
    properties = {
        "left": explanation.left.text,
        "right": explanation.right.text,
        "cosine": f"{explanation.cosine:.4f}",
        "parts": f"add up to the cosine but for {explanation.error:.1e}",
        "method": explanation.method,
        "encoder": explanation.model,
    }
    pairs = [(pair.left, pair.right, f"{pair.part:+.4f}") for pair in explanation.pairs[:MAX_PAIRS]]
    sections = [
        Section("Pairs of words", pictures=[_picture(explanation)] if pairs else []),
        Section("The greatest pairs", tables=[PageTable(("left", "right", "part"), pairs, text_columns=("right",))]),
        Section("Words", tables=[_words("left", explanation.left), _words("right", explanation.right)]),
    ]
    return render_page("Why these texts are near", properties, sections, verdict=verdict)


def _words(side: str, text: ExplainedText) -> PageTable:
    rows = [(word.word, f"{word.part:+.4f}") for word in text.words]
    return PageTable(("word", "part"), [*rows, ("(rest)", f"{text.rest:+.4f}")], caption=f"{side} text")


def _picture(explanation: Explanation) -> Picture:
    rows, columns = _strongest(explanation.left), _strongest(explanation.right)
    parts = np.array(explanation.parts)[np.ix_(rows, columns)]
    figure = new_figure(height=max(2.2, 0.24 * len(rows) + 1.2))
    axes = figure.add_subplot()
    limit = float(np.abs(parts).max(initial=1e-9))
    image = axes.imshow(parts, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(
        range(len(columns)), [plain(explanation.right.words[at].word) for at in columns], rotation=60, ha="right"
    )
    axes.set_yticks(range(len(rows)), [plain(explanation.left.words[at].word) for at in rows])
    axes.tick_params(labelsize=8)
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=8)
    return as_picture(
        figure,
        "Part of each pair in the cosine",
        "Left text from top to bottom, right text from left to right; blue adds, red takes away.",
    )


def _strongest(text: ExplainedText) -> list[int]:
    order = sorted(range(len(text.words)), key=lambda number: -abs(text.words[number].part))
    return sorted(order[:MAX_WORDS])
