"""The outline of a document: its headings, and the pages of a PDF, by their place in the text."""

import re

import polars as pl

__all__ = ["OUTLINE", "PAGE", "markdown_outline"]

OUTLINE = pl.List(
    pl.Struct({"start": pl.Int64(), "end": pl.Int64(), "level": pl.Int64(), "title": pl.String()}),
)
"""Marks of one document in the order of their places. ``start`` and ``end`` are characters of the text. A heading has the
level 1 (the highest) to 6 and is the whole lines between its two places. A page has the level `PAGE`; its ``title`` is its
number."""
PAGE = 0

HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S.*?)(?:[ \t]+#+)?[ \t]*\r?$", re.MULTILINE)
FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)


def markdown_outline(text: str) -> list[dict[str, int | str]]:
    """Return the headings of a text that may be Markdown: lines such as ``## Title`` outside of fenced code."""
    if "#" not in text:
        return []
    headings = list(HEADING.finditer(text))
    fences = [match.span() for match in FENCE.finditer(text)] if headings else []
    return [
        {"start": match.start(), "end": match.end(), "level": len(match[1]), "title": match[2]}
        for match in headings
        if not any(start <= match.start() < end for start, end in fences)
    ]
