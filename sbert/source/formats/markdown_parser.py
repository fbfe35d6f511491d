"""The parser of Markdown, with the parts of the library changed that are meant for browsers."""

from markdown_it import MarkdownIt

__all__ = ["TextParser"]


class TextParser(MarkdownIt):
    """A parser whose caller needs no destinations of links and pictures, so it neither encodes nor refuses them.

    The library refuses destinations that are dangerous in a browser, and leaves such a link as it is written. A picture that
    is part of the document (``data:image/svg+xml;base64,…``) would be kilobytes of text.
    """

    def normalizeLink(self, url: str) -> str:  # noqa: N802  (named by the library)
        """Return a destination as it is."""
        return url

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802
        """Accept every destination."""
        return True
