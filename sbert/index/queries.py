"""Queries as vectors: cleaned and encoded as the texts of the table were, with the encoder's prompt for queries.

A text that cannot be a query (nothing left after cleaning, or too long for a table that rejects such texts) is named with a
reason; the other queries are searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sbert.encoder.description import EncoderSpec
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.process_cache import load_encoder
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.tokenization.texts import check_text
from sbert.errors import ModelError, RegistryError, StorageError
from sbert.rows.cleaning import clean_texts
from sbert.rows.rejects import RejectReason
from sbert.storage.errors import is_transient
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning, table_windows
from sbert.vectors.precision import Float32, truncate

__all__ = ["EncodedQueries", "QueryEncoder", "RejectedQuery", "load_table_encoder"]


@dataclass(frozen=True)
class RejectedQuery:
    """A text that cannot be a query."""

    number: int
    """Its place among the queries, counted from 0."""
    reason: RejectReason
    detail: str


@dataclass(frozen=True)
class EncodedQueries:
    """Queries that can be searched."""

    numbers: tuple[int, ...]
    """Place of each query among the given texts."""
    texts: tuple[str, ...]
    """The texts after cleaning."""
    vectors_QD: Float32
    """Shape (Q, dim)."""
    rejected: tuple[RejectedQuery, ...]


class QueryEncoder:
    """Makes vectors of queries by the rules of one table. The encoder is loaded at first use."""

    def __init__(self, table: Table) -> None:
        """Read the rules of the table."""
        self._table = table
        self._info = table.encoder
        self._cleaning = table_cleaning(table)
        self._windows = table_windows(table)

    def encode_queries(self, texts: Sequence[str]) -> EncodedQueries:
        """Clean and encode texts.

        Raises:
            SettingsError: one of the texts is not a string of valid Unicode.
            ModelError: the encoder cannot be loaded.
            EncoderMismatchError: the model of that name is no longer the same encoder.
        """
        for number, text in enumerate(texts):
            check_text(text, "the query" if len(texts) == 1 else f"query {number}")
        cleaned = clean_texts(pl.Series(texts, dtype=pl.String), self._cleaning).to_list()
        rejected = {
            number: RejectedQuery(number, RejectReason.EMPTY_TEXT, "the query is empty after cleaning: give a text")
            for number, text in enumerate(cleaned)
            if not text
        }
        if self._info.truncation == "reject":
            rejected |= self._too_long({number: text for number, text in enumerate(cleaned) if text})
        numbers = tuple(number for number in range(len(cleaned)) if number not in rejected)
        usable = tuple(cleaned[number] for number in numbers)
        vectors_QD = np.zeros((0, self._info.dim), np.float32)
        if usable:
            whole = load_table_encoder(self._table).encode(usable, side=Side.QUERY, windows=self._windows)
            vectors_QD = truncate(whole, self._info.dim, normalize=self._info.normalized)
        return EncodedQueries(numbers, usable, vectors_QD, tuple(rejected[number] for number in sorted(rejected)))

    def _too_long(self, texts: dict[int, str]) -> dict[int, RejectedQuery]:
        """Return the queries that a table would reject as rows."""
        encoder = load_table_encoder(self._table)
        limit = encoder.max_seq_length
        counts = encoder.tokenize(list(texts.values()), prompt=encoder.prompt_for(Side.QUERY)).num_tokens
        detail = f"tokens, the table takes texts of at most {limit}: shorten the query"
        return {
            number: RejectedQuery(number, RejectReason.TOO_MANY_TOKENS, f"the query has {count} {detail}")
            for number, count in zip(texts, counts.tolist(), strict=True)
            if count > limit
        }


def load_table_encoder(table: Table) -> SentenceEncoder:
    """Load the encoder that made a table's vectors; one is kept in each process.

    Raises:
        ModelError: it cannot be loaded.
        EncoderMismatchError: the model of that name is no longer the same encoder.
    """
    spec = EncoderSpec(
        model=table.encoder.model,
        max_seq_length=table.encoder.max_seq_length,
        compute_dtype=ComputeDtype(table.encoder.compute_dtype),
        normalize=table.encoder.normalized,
    )
    try:
        encoder = load_encoder(spec)
    except (ModelError, RegistryError, StorageError) as error:
        if is_transient(error):
            raise
        raise ModelError(
            f"{table.uri}: its encoder {table.encoder.model} cannot be loaded ({error}): put the model back there, or make "
            "the table with a model that can be loaded, by `sbert refresh` with --model"
        ) from error
    table.check_model(encoder)
    return encoder
