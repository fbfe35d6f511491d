"""Sentence-BERT embeddings of raw text in object storage, as a library: no Prefect in here.

>>> from sbert import SentenceEncoder
>>> SentenceEncoder.from_pretrained().encode(["How do I reset my password?"]).shape
(1, 384)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbert.encoder import ComputeDtype, SentenceEncoder
    from sbert.job import EncodingSettings, RefreshJob, RefreshSettings, TruncationPolicy
    from sbert.plan import make_plan
    from sbert.search import search_table
    from sbert.table import Table

__all__ = [
    "ComputeDtype",
    "EncodingSettings",
    "RefreshJob",
    "RefreshSettings",
    "SentenceEncoder",
    "Table",
    "TruncationPolicy",
    "make_plan",
    "search_table",
]

_HOMES = {
    "ComputeDtype": "encoder",
    "EncodingSettings": "job",
    "RefreshJob": "job",
    "RefreshSettings": "job",
    "SentenceEncoder": "encoder",
    "Table": "table",
    "TruncationPolicy": "job",
    "make_plan": "plan",
    "search_table": "search",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import sbert`` must not cost the seconds that torch takes."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sbert' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"sbert.{_HOMES[name]}"), name)
