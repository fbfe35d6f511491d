"""Sentence-BERT embeddings of raw text in object storage, as a library: no Prefect in here.

>>> from sbert import SentenceEncoder
>>> SentenceEncoder.from_pretrained().encode(["How do I reset my password?"]).shape
(1, 384)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbert.encoder import ComputeDtype, SentenceEncoder
    from sbert.refresh.job import EncodingSettings, RefreshJob, RefreshSettings, TruncationPolicy
    from sbert.refresh.plan import make_plan
    from sbert.table.delta import Table
    from sbert.table.search import search_table

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
    "EncodingSettings": "refresh.job",
    "RefreshJob": "refresh.job",
    "RefreshSettings": "refresh.job",
    "SentenceEncoder": "encoder",
    "Table": "table.delta",
    "TruncationPolicy": "refresh.job",
    "make_plan": "refresh.plan",
    "search_table": "table.search",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import sbert`` must not cost the seconds that torch takes."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sbert' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"sbert.{_HOMES[name]}"), name)
