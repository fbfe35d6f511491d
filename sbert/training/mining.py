"""Mine hard negatives: texts near an anchor that are not its positive.

The search is exact, over the vectors of a table or of the labels' own positives. The nearest texts may be positives that
nobody labelled, so texts that are too near, by rank or by cosine, are skipped (Xiong et al. 2021, ANCE, section 3; Moreira
et al. 2024, NV-Retriever, section 3, for the margin relative to the positive).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import ColumnError, SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.near_duplicates import normalize_texts
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.training.settings import NegativesSettings
from sbert.vectors.precision import Precision
from sbert.vectors.unit import unit_rows

__all__ = ["Corpus", "add_negatives", "mine_negatives", "open_table", "read_corpus"]

log = logging.getLogger(__name__)

ROWS_PER_READ = 65_536
SCORES_AT_ONCE = 2**25
"""Anchors x texts whose cosines are in memory at once (128 MiB, and twice as much for ranking them)."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """Distinct texts and their vectors, shape (T,) and (T, D)."""

    texts: pl.Series
    vectors_TD: Vectors


def read_corpus(table: Table, text_column: str = "text", *, max_rows: int = 1_000_000) -> Corpus:
    """Read texts and vectors of the current version of a table that keeps its texts.

    Raises:
        ColumnError: when the table has no such column.
        SettingsError: when it has more than `max_rows` rows, which would not fit into memory.
    """
    if text_column not in table.kept_schema:
        raise ColumnError(
            f"{table.uri}: no column {text_column!r}; it keeps: {', '.join(table.kept_schema) or '(none)'}; refresh the "
            f"table with keep_columns {text_column}"
        )
    if table.num_rows > max_rows:
        raise SettingsError(
            f"{table.uri}: negatives are mined from at most {max_rows:,} rows, but the table has {table.num_rows:,}: "
            "name a smaller table"
        )
    frames, parts = [], []
    for batch in _batches(table, text_column):
        frames.append(pl.Series(batch.column(text_column).to_pylist(), dtype=pl.String))
        parts.append(vector_matrix(batch, table.encoder.dim, Precision(table.encoder.precision)))
    if not frames:
        return Corpus(pl.Series([], dtype=pl.String), np.zeros((0, table.encoder.dim), dtype=np.float32))
    texts = pl.DataFrame({"text": pl.concat(frames)}).with_row_index("row").drop_nulls()
    texts = texts.unique("text", keep="first", maintain_order=True)
    return Corpus(texts["text"], np.concatenate(parts)[texts["row"].to_numpy()])


def _batches(table: Table, text_column: str) -> Iterator[Any]:
    columns = [*vector_names(Precision(table.encoder.precision)), text_column]
    for shard in table.shards():
        with open_shard(table.shard_uri(shard.name)) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ, columns=columns):
                yield pa.Table.from_batches([batch]).combine_chunks().to_batches()[0]


def mine_negatives(
    pairs: pl.DataFrame, corpus: Corpus, encoder: SentenceEncoder, settings: NegativesSettings
) -> pl.DataFrame:
    """Return the pairs with columns ``negative``, ``negative_2``, …. Pairs with too few negatives are left out.

    A negative ranks below `skip_nearest`, within `search_depth`; its cosine is at most `max_score` and at most
    (1 - `relative_margin`) times that of anchor and positive; it is not a positive of the same anchor.

    Args:
        pairs: columns anchor and positive, and any others.
        corpus: where negatives are looked for, with vectors of the same encoder.
        encoder: encodes anchors and positives.
        settings: how many negatives, and how near they may be.
    """
    if settings.per_anchor == 0 or pairs.height == 0:
        return pairs
    if corpus.texts.is_empty():
        return pairs.clear()
    anchors_ND = unit_rows(encoder.encode(pairs["anchor"], side=Side.QUERY))
    positives_ND = unit_rows(encoder.encode(pairs["positive"], side=Side.DOCUMENT))
    limits_N = (anchors_ND * positives_ND).sum(axis=1) * (1 - settings.relative_margin)
    if settings.max_score is not None:
        limits_N = np.minimum(limits_N, settings.max_score)
    forbidden = _own_texts(pairs, corpus.texts)
    corpus_DT = unit_rows(corpus.vectors_TD).T
    depth = min(settings.skip_nearest + settings.search_depth, corpus_DT.shape[1])
    mined = np.full((pairs.height, settings.per_anchor), -1, dtype=np.int64)
    at_once = max(1, SCORES_AT_ONCE // corpus_DT.shape[1])
    for first in range(0, pairs.height, at_once):
        scores = anchors_ND[first : first + at_once] @ corpus_DT
        nearest = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        ordered = np.take_along_axis(nearest, np.argsort(-np.take_along_axis(scores, nearest, 1), axis=1), 1)
        for offset, candidates in enumerate(ordered):
            row = first + offset
            others = [text for text in candidates.tolist() if text not in forbidden[row]][settings.skip_nearest :]
            fitting = [text for text in others if scores[offset, text] <= limits_N[row]][: settings.per_anchor]
            mined[row, : len(fitting)] = fitting
    whole = (mined >= 0).all(axis=1)
    names = ["negative", *(f"negative_{number}" for number in range(2, settings.per_anchor + 1))]
    columns = [corpus.texts.gather(mined[whole, place]).alias(name) for place, name in enumerate(names)]
    return pairs.filter(pl.Series(whole)).with_columns(columns)


def _own_texts(pairs: pl.DataFrame, texts: pl.Series) -> list[frozenset[int]]:
    """Return for each pair the texts of the corpus that are its anchor or a positive of its anchor."""
    places: dict[str, list[int]] = {}
    for number, text in enumerate(normalize_texts(texts)):
        places.setdefault(text, []).append(number)
    anchors, positives = normalize_texts(pairs["anchor"]).to_list(), normalize_texts(pairs["positive"]).to_list()
    own: dict[str, set[int]] = {}
    for anchor, positive in zip(anchors, positives, strict=True):
        own.setdefault(anchor, set(places.get(anchor, []))).update(places.get(positive, []))
    frozen = {anchor: frozenset(numbers) for anchor, numbers in own.items()}
    return [frozen[anchor] for anchor in anchors]


def open_table(settings: NegativesSettings) -> Table | None:
    """Open the newest version of the table that negatives are mined from, if one is named.

    Raises:
        NotATableError, StorageError: as `Table.open`.
    """
    return None if settings.table_uri is None or settings.per_anchor == 0 else Table.open(settings.table_uri)


def add_negatives(
    rows: pl.DataFrame,
    kind: LabelKind,
    encoder: SentenceEncoder,
    settings: NegativesSettings,
    table: Table | None = None,
) -> tuple[LabelKind, pl.DataFrame]:
    """Mine negatives for pairs, in a table or among the labels' own positives.

    The vectors of the table are used when the same encoder made them; else its texts are encoded.

    Returns:
        The kind of labels and the rows with negatives: triplets. Without mining both are unchanged.

    Raises:
        SettingsError: when the labels are not pairs, the table has too many rows, or fewer than two pairs have negatives.
        ColumnError: when the table does not keep the texts.
    """
    if settings.per_anchor == 0:
        return kind, rows
    if kind is not LabelKind.PAIRS:
        raise SettingsError(f"negatives are mined for pairs, but the labels are {kind}: set negatives.per_anchor to 0")
    prompt = encoder.prompt_for(Side.DOCUMENT)
    if table is None:
        texts = rows["positive"].unique(maintain_order=True)
        corpus = Corpus(texts, encoder.encode(texts, side=Side.DOCUMENT))
    else:
        corpus = read_corpus(table, settings.text_column)
        made = table.encoder
        if (made.model_fingerprint, made.prompt, made.dim) != (encoder.fingerprint, prompt, encoder.dim):
            log.info("%s: another encoder made its vectors, its %d texts are encoded", table.uri, len(corpus.texts))
            corpus = Corpus(corpus.texts, encoder.encode(corpus.texts, side=Side.DOCUMENT))
    mined = mine_negatives(rows, corpus, encoder, settings)
    place = "the labels' positives" if table is None else f"{table.uri} at version {table.version}"
    if mined.height < min(2, rows.height):
        raise SettingsError(
            f"{mined.height} of {rows.height} pairs have {settings.per_anchor} fitting negatives among {len(corpus.texts)} "
            f"texts of {place}: lower negatives.per_anchor, skip_nearest or relative_margin ({settings.relative_margin:g}), "
            "or raise search_depth or max_score"
        )
    log.info("%d of %d pairs have negatives from %s", mined.height, rows.height, place)
    return LabelKind.TRIPLETS, mined
