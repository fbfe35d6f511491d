"""Choose the ranker of sentences: a ranker that is fitted to labels, or LexRank.

Without labels LexRank ranks. With labels a ranker is fitted, and compared with LexRank on documents that it has not seen, by
cross-validation. LexRank stays where the ranker is not better. Nothing is remembered but the rankers themselves, beside the
output: a ranker is named by what decides it, so that labels, encoder and settings that did not change find it again. An edit
of a labelled document fits no other ranker, since another ranker makes every summary anew.
"""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.summaries.documents import Document, DocumentReader
from sbert.apply.summaries.examples import Example, make_examples
from sbert.apply.summaries.fit import CODE_VERSION, fit_models
from sbert.apply.summaries.labels import SummaryLabels, read_summaries
from sbert.apply.summaries.quality import measure_rankers
from sbert.apply.summaries.ranker import RANKERS, LabelCounts, Ranker, RankerQuality, RankerRecord
from sbert.apply.summaries.settings import SummarySettings
from sbert.errors import TooFewLabelsError
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["RankerDecision", "choose_ranker"]

log = logging.getLogger(__name__)


class RankerDecision(BaseModel):
    """The method that ranks the sentences, and the reason for it."""

    model_config = ConfigDict(frozen=True)

    ranker: str = Field(description="Name of the ranker's folder in ``_rankers/``; empty for LexRank.")
    reason: str
    is_new: bool = Field(default=False, description="Whether the ranker was fitted in this run.")
    labels: LabelCounts | None = Field(
        default=None, description="Numbers of labels that were used and left out; None without labels."
    )
    quality: RankerQuality | None = Field(default=None, description="The ranker on documents that it has not seen.")


def choose_ranker(table: Table, labels_uri: str | None, out_uri: str, settings: SummarySettings) -> RankerDecision:
    """Return the choice of a ranker. Fit it and store it beside the output, if labels are given and it is not there.

    Args:
        table: the embeddings table; its encoder makes the vectors of sentences.
        labels_uri: file, folder or glob of summaries that people wrote; None for none.
        out_uri: the output, beside which rankers lie.
        settings: how labels are read and learned from.

    Raises:
        LabelError, ColumnError, BrokenObjectError: the labels cannot be read.
        TooFewLabelsError: too few of the labelled documents are in the table.
        ModelError: the table's encoder cannot be loaded.
        TableError: the ranker that is there is damaged.
    """
    if labels_uri is None:
        return RankerDecision(ranker="", reason="no labels are given: LexRank ranks")
    labels = read_summaries(labels_uri, settings.columns)
    fingerprint = _fingerprint(labels, table, settings)
    stored = RANKERS.find(out_uri, fingerprint)
    if stored is not None:
        return _decision(stored.record, is_new=False)
    examples, counts = _examples(table, labels, settings)
    quality = measure_rankers(examples, settings)
    record = RankerRecord(
        fingerprint=fingerprint,
        encoder_fingerprint=table.encoder.fingerprint,
        labels=counts,
        quality=quality,
    )
    Ranker(record, fit_models(examples, settings.ranker)).save(normalize_uri(out_uri))
    return _decision(record, is_new=True)


def _fingerprint(labels: SummaryLabels, table: Table, settings: SummarySettings) -> str:
    """Return a hash of everything that decides a ranker and whether it is used, but not of the documents' texts."""
    own = settings.model_dump_json(exclude={"columns"})
    parts = [labels.fingerprint, table.encoder.fingerprint, own, str(CODE_VERSION)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def _examples(table: Table, labels: SummaryLabels, settings: SummarySettings) -> tuple[list[Example], LabelCounts]:
    """Return the examples to learn from, and the counts of all labels.

    Raises:
        TooFewLabelsError: there are fewer documents than parts of cross-validation.
    """
    documents = DocumentReader(table).find(labels.references)
    ids = {document.id for document in documents}
    usable = _sample(documents, settings)
    examples = make_examples(table, usable, labels.references, settings.max_ranked_sentences)
    counts = LabelCounts(
        num_rows=labels.num_rows,
        num_incomplete=labels.num_incomplete,
        num_repeated=labels.num_repeated,
        num_documents=len(labels.references),
        num_several=labels.num_several,
        num_not_found=len(labels.references.keys() - ids),
        num_without_choice=len(usable) - len(examples),
        num_left_out=len(documents) - len(usable),
        num_learned=len(examples),
    )
    needed = 2 * settings.ranker.num_folds
    if len(examples) < needed:
        unknown = next((f", unlike {name!r}" for name in labels.references if name not in ids), "")
        raise TooFewLabelsError(
            f"{labels.uri}: {counts.account()}; a ranker needs {needed} documents to learn from. Check that column "
            f"{settings.columns.document!r} holds ids of documents of {table.uri}{unknown}, or leave the labels out (the "
            "output then shows the ids)"
        )
    if counts.num_not_found or counts.num_incomplete:
        log.warning("%s: %s", labels.uri, counts.account())
    return examples, counts


def _sample(documents: Sequence[Document], settings: SummarySettings) -> list[Document]:
    """Return the documents to learn from: all, or as many as the settings allow, chosen by the seed."""
    if len(documents) <= settings.ranker.max_documents:
        return list(documents)
    sampled = np.random.default_rng(settings.ranker.seed).permutation(len(documents))[: settings.ranker.max_documents]
    return [documents[at] for at in np.sort(sampled)]


def _decision(record: RankerRecord, *, is_new: bool) -> RankerDecision:
    quality = record.quality
    values = f"ROUGE-1 {quality.ranker.value:.3f} against {quality.lexrank.value:.3f} of LexRank on unseen documents"
    if quality.is_better:
        return RankerDecision(
            ranker=record.fingerprint,
            reason=f"the ranker is used: {values}",
            is_new=is_new,
            labels=record.labels,
            quality=quality,
        )
    log.warning("LexRank ranks, because the ranker is not better: %s", values)
    return RankerDecision(
        ranker="", reason=f"LexRank ranks: {values}", is_new=is_new, labels=record.labels, quality=quality
    )
