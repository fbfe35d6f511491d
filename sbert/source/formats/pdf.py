"""PDF: the text of its pages. pypdf reads it; it is installed with the extra ``pdf``."""

import importlib.util
import io
import logging
import re
from typing import TYPE_CHECKING

from sbert.errors import BrokenObjectError
from sbert.source.formats.document import Document, DocumentFormat, DocumentText

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["PdfFormat"]

HYPHEN = re.compile(r"(?<=\w)[-\u00ad]\n(?=[a-z])")
"""A word that goes on in the next line."""


class PdfFormat(DocumentFormat):
    """PDF files with text. Pages follow one another in one document; ``page`` is the page on which a passage begins."""

    name = "pdf"
    endings = (".pdf",)
    may_be_compressed = False
    has_pages = True

    def parse(self, data: bytes, uri: str, encoding: str | None) -> Document:  # noqa: ARG002
        """Return the text of all pages.

        Raises:
            BrokenObjectError: when the file is damaged or encrypted, or pypdf is not installed.
        """
        if importlib.util.find_spec("pypdf") is None:
            raise BrokenObjectError(uri, "reading PDF needs the extra pdf: run pip install 'sbert-prefect[pdf]'")
        from pypdf import PdfReader

        logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every small fault
        text = DocumentText()
        try:
            reader = PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise BrokenObjectError(uri, "the PDF is encrypted with a password: store it without one")
            for number, page in enumerate(reader.pages, start=1):
                text.add_page(_clean(page.extract_text()), number)
            title = _title(reader)
            num_pages = len(reader.pages)
        except BrokenObjectError:
            raise
        except Exception as error:  # pypdf raises errors of many kinds for damaged files
            detail = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise BrokenObjectError(uri, f"the PDF is damaged ({detail}): store it again") from error
        pages = "page has" if num_pages == 1 else "pages have"
        return Document(
            text.text,
            title,
            text.outline,
            if_empty=f"its {num_pages} {pages} no text, perhaps only pictures: recognise the text first (OCR)",
        )


def _clean(text: str) -> str:
    """Return the text of a page with words put together that were cut at the end of a line."""
    return HYPHEN.sub("", text.encode("utf-8", "replace").decode("utf-8"))


def _title(reader: "PdfReader") -> str | None:
    title = reader.metadata.title if reader.metadata is not None else None
    return " ".join(title.split()) or None if title else None
