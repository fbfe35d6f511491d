"""Sentence-BERT embeddings of raw text in object storage, as a library: no Prefect in here.

>>> from sbert import SentenceEncoder
>>> SentenceEncoder.from_pretrained().encode(["How do I reset my password?"]).shape
(1, 384)

The packages, from the ground up; each imports only from those before it:
storage, runtime, rows, source, vectors, registry, encoder, table, index, refresh, derived, labels, evaluation, training,
retrain, suggest, sync, apply.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbert.encoder.engine.dtype import ComputeDtype
    from sbert.encoder.sentence_encoder import SentenceEncoder
    from sbert.index.search import search_table
    from sbert.index.search_settings import SearchSettings
    from sbert.labels.load import load_labels
    from sbert.labels.settings import LabelSettings
    from sbert.refresh.job import EncodingSettings, RefreshJob, RefreshSettings, TruncationPolicy
    from sbert.refresh.plan import make_plan
    from sbert.refresh.run import refresh as refresh_table
    from sbert.retrain.run import retrain as retrain_encoder
    from sbert.retrain.settings import RetrainJob, RetrainSettings
    from sbert.table.delta import Table
    from sbert.training.train import train_encoder

__all__ = [
    "ComputeDtype",
    "EncodingSettings",
    "LabelSettings",
    "RefreshJob",
    "RefreshSettings",
    "RetrainJob",
    "RetrainSettings",
    "SearchSettings",
    "SentenceEncoder",
    "Table",
    "TruncationPolicy",
    "load_labels",
    "make_plan",
    "refresh_table",
    "retrain_encoder",
    "search_table",
    "train_encoder",
]

_HOMES = {
    "ComputeDtype": "encoder.engine.dtype:ComputeDtype",
    "EncodingSettings": "refresh.job:EncodingSettings",
    "LabelSettings": "labels.settings:LabelSettings",
    "RefreshJob": "refresh.job:RefreshJob",
    "RefreshSettings": "refresh.job:RefreshSettings",
    "RetrainJob": "retrain.settings:RetrainJob",
    "RetrainSettings": "retrain.settings:RetrainSettings",
    "SearchSettings": "index.search_settings:SearchSettings",
    "SentenceEncoder": "encoder.sentence_encoder:SentenceEncoder",
    "Table": "table.delta:Table",
    "TruncationPolicy": "refresh.job:TruncationPolicy",
    "load_labels": "labels.load:load_labels",
    "make_plan": "refresh.plan:make_plan",
    "refresh_table": "refresh.run:refresh",  # `sbert.refresh` is the package
    "retrain_encoder": "retrain.run:retrain",  # `sbert.retrain` is the package
    "search_table": "index.search:search_table",
    "train_encoder": "training.train:train_encoder",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import sbert`` must not cost the seconds that torch takes."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sbert' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"sbert.{module}"), attribute)
