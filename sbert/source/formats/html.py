"""HTML: the text of a page without navigation, scripts and styles.

selectolax (Lexbor) parses the page. Marks are put around blocks, headings, and elements that are left out; then the text
of the whole page is taken at once, and the marks say where paragraphs end and which parts go. Python loops over blocks only.
"""

import codecs
import re
from collections.abc import Iterator

import polars as pl
from selectolax.lexbor import LexborHTMLParser, LexborNode

from sbert.source.formats.document import Document, DocumentFormat, DocumentText

__all__ = ["HtmlFormat", "html_document"]

BLOCK, BREAK, HEADING, HEADING_END, OUT, OUT_END = "\x01", "\x02", "\x03", "\x04", "\x05", "\x06"
MARKS = (BLOCK, BREAK, HEADING, HEADING_END, OUT, OUT_END)
WITHOUT_MARKS = str.maketrans("", "", "".join(MARKS))

BLOCKS = (
    "address,article,blockquote,caption,center,dd,details,dialog,div,dl,dt,fieldset,figcaption,figure,header,hgroup,hr,legend,"
    "li,main,ol,p,pre,section,summary,table,td,th,tr,ul"
)
LEFT_OUT = (
    "script,style,noscript,template,nav,aside,footer,svg,iframe,object,form,button,select,textarea,body>header,[hidden],"
    "[aria-hidden=true],[role=navigation],[role=banner],[role=contentinfo],[role=search],[role=complementary]"
)
ROOTS = ("main", "[role=main]", "article")
"""The part of a page that holds its text, if there is exactly one such element; else it is the body."""

DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([-\w]+)", re.IGNORECASE)
DECLARED_WITHIN = 1024
"""Bytes at the beginning in which an encoding is declared, by the standard of HTML."""
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class HtmlFormat(DocumentFormat):
    """Pages of HTML."""

    name = "html"
    endings = (".html", ".htm", ".xhtml")

    def parse(self, data: bytes, uri: str, encoding: str | None) -> Document:  # noqa: ARG002
        """Return the text of a page."""
        return html_document(data.decode(encoding) if encoding else _decoded(data))


def html_document(html: str) -> Document:
    """Return the text, title and headings of a page or a part of one."""
    has_marks = any(mark in html for mark in MARKS)  # six quick searches, where one for all of them is slow
    page = LexborHTMLParser(html.translate(WITHOUT_MARKS) if has_marks else html)
    title = page.css_first("title")
    text = DocumentText()
    for root in _roots(page):
        text = DocumentText()
        _add_text(text, root)
        if text.text:
            break
    named = " ".join(title.text().split()) if title is not None else ""
    return Document(
        text.text,
        named or text.first_heading,
        text.outline,
        if_empty="the page has no text outside of its navigation and scripts",
    )


def _decoded(data: bytes) -> str:
    """Return bytes as text, by byte-order mark, by declaration, else as UTF-8."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    declared = DECLARED.search(data[:DECLARED_WITHIN])
    name = declared[1].decode("ascii", "replace").lower() if declared else "utf-8"
    if name in {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"}:  # as browsers do, by the standard of HTML
        name = "windows-1252"
    try:
        codecs.lookup(name)
    except LookupError:
        name = "utf-8"
    return data.decode("utf-8" if name.startswith("utf-16") else name)


def _roots(page: LexborHTMLParser) -> Iterator[LexborNode]:
    """Yield the elements that may hold the text of a page, the best first."""
    for selector in ROOTS:
        roots = page.css(selector)
        if len(roots) == 1:
            yield roots[0]
    if page.body is not None:
        yield page.body


def _add_text(document: DocumentText, root: LexborNode) -> None:
    """Add the text of an element."""
    for node in root.css(BLOCKS):
        node.insert_before(BLOCK)
        node.insert_after(BLOCK)
    for node in root.css("br"):
        node.insert_before(BREAK)
    for level in range(1, 7):
        for node in root.css(f"h{level}"):
            node.insert_before(f"{HEADING}{level}")
            node.insert_after(HEADING_END)
    for node in root.css(LEFT_OUT):
        node.insert_before(OUT)
        node.insert_after(OUT_END)
    whole = pl.Series([_without_left_out(root.text(separator=""))])
    spaced = (
        whole.str.replace_all(r"\s+", " ")
        .str.replace_all(" ?\x01[\x01 \x02]*", "\n\n")
        .str.replace_all(" ?\x02 ?", "\n")
    )
    for part in re.split(f"(?={HEADING})", spaced[0]):
        rest = part
        if part.startswith(HEADING):
            title, _, rest = part[2:].partition(HEADING_END)
            document.add_heading(title, int(part[1]))
        document.add(rest.replace(HEADING_END, ""))


def _without_left_out(text: str) -> str:
    """Return a text without the parts between marks, which may lie within each other."""
    if OUT not in text:
        return text
    kept: list[str] = []
    depth = begin = 0
    for match in re.finditer(f"[{OUT}{OUT_END}]", text):
        if not depth:
            kept.append(text[begin : match.start()])
        depth += 1 if match[0] == OUT else -1
        depth = max(depth, 0)
        begin = match.end()
    return "".join([*kept, "" if depth else text[begin:]])
