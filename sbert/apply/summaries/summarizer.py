"""Turn documents into rows of the output: sentences, their vectors, their scores, and the summary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sbert.apply.summaries.documents import Document
from sbert.apply.summaries.lexrank import rank_sentences
from sbert.apply.summaries.ranker import Ranker
from sbert.apply.summaries.selection import choose_sentences, join_sentences
from sbert.apply.summaries.sentence_vectors import sentence_vectors
from sbert.apply.summaries.sentences import SentenceList, split_documents
from sbert.apply.summaries.settings import SummaryBudget
from sbert.table.delta import Table
from sbert.vectors.precision import Float32

__all__ = ["SUMMARY_SCHEMA", "Summarizer"]

SENTENCE = pa.struct(
    [("start", pa.int64()), ("end", pa.int64()), ("score", pa.float32()), ("rank", pa.int32()), ("chosen", pa.bool_())]
)
SUMMARY_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("digest", pa.binary()),
        pa.field("summary", pa.string()),
        pa.field("num_words", pa.int32()),
        pa.field("sentences", pa.list_(SENTENCE)),
        pa.field("num_sentences", pa.int32()),
    ]
)
"""`id` is the document's. `digest` is that of its text. `sentences` are those that were ranked, in their order, with their
places in the document (characters). `summary` is null for a document without a sentence."""


class Summarizer:
    """Summarises documents of one table; threads may share one."""

    def __init__(self, table: Table, ranker: Ranker | None, budget: SummaryBudget, max_sentences: int) -> None:
        """Prepare to summarise; without a ranker LexRank ranks."""
        self._table = table
        self._ranker = ranker
        self._budget = budget
        self._max_sentences = max_sentences

    def rows(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        """Return a row of `SUMMARY_SCHEMA` for each document.

        Raises:
            ModelError: the table's encoder cannot be loaded; a document of one sentence needs no encoder.
            EncoderMismatchError: the model of that name is no longer the same encoder.
        """
        sentences = split_documents(documents, self._max_sentences)
        several = [number for number, sentence_list in enumerate(sentences) if len(sentence_list) > 1]
        vectors = dict(
            zip(several, sentence_vectors(self._table, [sentences[number] for number in several]), strict=True)
        )
        return [
            self._row(document, sentence_list, vectors.get(number))
            for number, (document, sentence_list) in enumerate(zip(documents, sentences, strict=True))
        ]

    def _row(self, document: Document, sentences: SentenceList, vectors_SD: Float32 | None) -> dict[str, Any]:
        num = len(sentences)
        if vectors_SD is None:
            scores_S, chosen_C = np.ones(num, np.float32), np.arange(num)
        else:
            rank = rank_sentences if self._ranker is None else self._ranker.scores
            scores_S = rank(sentences, vectors_SD)
            chosen_C = choose_sentences(scores_S, sentences.num_words_S, vectors_SD, self._budget)
        ranks_S = np.empty(num, np.int64)
        ranks_S[np.argsort(-scores_S, kind="stable")] = np.arange(1, num + 1)
        is_chosen_S = np.isin(np.arange(num), chosen_C)
        columns = (sentences.starts_S, sentences.ends_S, scores_S, ranks_S, is_chosen_S)
        return {
            "source": document.source,
            "id": document.id,
            "digest": document.digest,
            "summary": join_sentences([sentences.texts[at] for at in chosen_C]) if num else None,
            "num_words": int(sentences.num_words_S[chosen_C].sum()),
            "sentences": [
                dict(zip(("start", "end", "score", "rank", "chosen"), values, strict=True))
                for values in zip(*(column.tolist() for column in columns), strict=True)
            ],
            "num_sentences": sentences.num_sentences,
        }
