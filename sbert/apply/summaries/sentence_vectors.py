"""Unit vectors of sentences, made by the rules of the table's rows: its cleaning, prompt, windows, dimension."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sbert.apply.summaries.sentences import SentenceList
from sbert.apply.text_vectors import encode_cleaned, table_texts
from sbert.table.delta import Table
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["sentence_vectors"]


def sentence_vectors(table: Table, documents: Sequence[SentenceList]) -> list[Float32]:
    """Return the unit vectors of the sentences of each document, shape (S, dim) each; equal sentences are encoded once.

    Raises:
        ModelError: the table's encoder cannot be loaded.
        EncoderMismatchError: the model of that name is no longer the same encoder.
    """
    texts = [text for document in documents for text in document.texts]
    if not texts:
        return [np.zeros((0, table.encoder.dim), np.float32) for _ in documents]
    vectors_ND = unit_rows(encode_cleaned(table, table_texts(table, texts).to_list()))
    bounds = np.cumsum([0, *map(len, documents)])
    return [vectors_ND[first:last] for first, last in pairwise(bounds.tolist())]
