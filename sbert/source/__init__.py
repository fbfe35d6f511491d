"""The raw text: list objects, cut them into units of work, stream rows out of them."""

from sbert.source.blocks import KEPT_PREFIX, RowBlock
from sbert.source.objects import Compression, ObjectFormat, SourceObject, list_objects
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings, SplitSettings
from sbert.source.splits import Span, Split, make_splits, with_first_rows

__all__ = [
    "KEPT_PREFIX",
    "Compression",
    "ObjectFormat",
    "ReadSettings",
    "RowBlock",
    "SourceObject",
    "SourceSettings",
    "Span",
    "Split",
    "SplitSettings",
    "infer_kept_schema",
    "list_objects",
    "make_splits",
    "read_span",
    "with_first_rows",
]
