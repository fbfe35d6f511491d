"""The side of a search that a text is on. The side decides the prompt that is put before the text.

Some encoders are trained with one prompt for queries and another for documents (``query: `` and ``passage: ``).
The rows of a table are documents. A search encodes its query as a query. Two texts that are compared as equals, such as the
sentences of a scored pair, the premise and hypothesis of NLI, or the texts of a classifier, are both rows of a table in
production, so both are documents.
"""

from enum import StrEnum

__all__ = ["Side"]


class Side(StrEnum):
    """The side of a text."""

    QUERY = "query"
    """A text that someone searches with."""
    DOCUMENT = "document"
    """A text that is found: a row of a table, or a text that is compared with such rows."""
