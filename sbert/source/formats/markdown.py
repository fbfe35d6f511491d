"""Markdown: the text of a document without its marks, with its headings."""

import codecs
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sbert.source.formats.document import Document, DocumentFormat, DocumentText
from sbert.source.formats.html import html_document

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["MarkdownFormat"]

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
EMBEDDED = re.compile(r"\]\(data:[^\s()]{256,}")
"""A link or picture with its data in the document itself; the parser would look at each character of them several times."""
FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE)


class MarkdownFormat(DocumentFormat):
    """Documents in Markdown (CommonMark and tables); a header of YAML between ``---`` gives the title and is no text."""

    name = "md"
    endings = (".md", ".markdown")

    def parse(self, data: bytes, uri: str, encoding: str | None) -> Document:  # noqa: ARG002
        """Return the text of a document."""
        from sbert.source.formats.markdown_parser import TextParser  # here: only Markdown needs its library

        source = data.decode(encoding or ("utf-16" if data.startswith(UTF16_MARKS) else "utf-8")).removeprefix("\ufeff")
        title = None
        header = FRONT_MATTER.match(source)
        if header is not None:
            source = source[header.end() :]
            named = TITLE.search(header[1])
            title = named[1].strip("\"'") if named else None
        text = DocumentText()
        _add_blocks(text, TextParser("commonmark").enable("table").parse(EMBEDDED.sub("](data:", source)))
        return Document(text.text, title or text.first_heading, text.outline)


def _add_blocks(document: DocumentText, tokens: Sequence["Token"]) -> None:  # noqa: C901, PLR0912  (one case for each kind of block)
    """Add the blocks of a document."""
    heading = 0
    is_item = False
    cells: list[str] | None = None
    separator = "\n\n"
    for token in tokens:
        if token.type == "heading_open":
            heading = int(token.tag[1:])
        elif token.type == "list_item_open":
            is_item = True
        elif token.type == "table_open":
            separator = "\n\n"
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            document.add(" | ".join(cells or []), after=separator)
            cells, separator = None, "\n"
        elif token.type in {"fence", "code_block"}:
            document.add(token.content)
        elif token.type == "html_block":
            document.add(html_document(token.content).text)
        elif token.type == "inline":
            text = _inline_text(token.children or [])
            if cells is not None:
                cells.append(text.strip())
            elif heading:
                document.add_heading(text, heading)
                heading = 0
            elif is_item:
                document.add(f"- {text}", after="\n")
                is_item = False
            else:
                document.add(text)


def _inline_text(tokens: Sequence[Any]) -> str:
    """Return the text of a paragraph without its marks; of an image its description."""
    parts: list[str] = []
    for token in tokens:
        if token.type in {"softbreak", "hardbreak"}:
            parts.append("\n")
        elif token.type in {"text", "code_inline", "image", "text_special"}:
            parts.append(token.content)
    return "".join(parts)
