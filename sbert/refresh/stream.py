"""One split as a stream of blocks: read, clean, tokenize, encode, write, each stage ahead of the next.

The one idea: blocks of some thousand rows pass through threads, so that storage, tokenizer, encoder and writer work at
the same time and memory holds a handful of blocks whatever the object's size. A text that is known, from the table or
from earlier in the run, never reaches the encoder. When a row turns out to be superseded (a later row has its id) the
split streams through once more without it: by then its texts are known, so nothing is encoded twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import BrokenObjectError, ColumnError
from sbert.refresh.job import TruncationPolicy
from sbert.refresh.reject_writer import RejectWriter
from sbert.rows.cleaning import clean
from sbert.rows.counts import RowCounts
from sbert.rows.rejects import REJECT_SCHEMA, RejectReason, original_of
from sbert.runtime.prefetch import prefetch
from sbert.source.blocks import KEPT_PREFIX, RowBlock
from sbert.source.reading import read_span
from sbert.storage.files import join
from sbert.table.duplicate_keys import KeyLedger, row_keys
from sbert.table.quantization_recall import VectorSample
from sbert.table.shards import ShardRecord, ShardWriter, table_schema, vector_columns
from sbert.table.split_records import rejects_name
from sbert.table.text_index import distinct_rows, hash_matrix
from sbert.vectors.precision import Calibration, StoredVectors, norm_tolerance, reduce_vectors, restore
from sbert.vectors.quality import check_vectors

if TYPE_CHECKING:
    from sbert.refresh.build import SplitBuilder
    from sbert.refresh.plan import PlannedSplit

__all__ = ["SplitStream"]

PREFETCH_BLOCKS = 2

Positions = npt.NDArray[np.int64]
"""Places of rows in the stream of clean rows of a split, counted from 0."""

SUPERSEDED_DETAILS = {
    RejectReason.DUPLICATE_ID: "a later row of this object has the same id",
    RejectReason.DUPLICATE_TEXT: "an earlier row of this object has the same cleaned text",
}


@dataclass(frozen=True)
class CleanBlock:
    """Cleaned rows and the rejects so far."""

    num_rows_read: int
    rows: pl.DataFrame
    rejects: pl.DataFrame


@dataclass(frozen=True)
class TokenizedBlock:
    """A clean block with its N distinct texts, of which those not known are tokenized."""

    block: CleanBlock
    hashes: npt.NDArray[np.uint8]
    """Hash of each distinct text, shape (N, 16)."""
    texts: pl.Series
    """The distinct texts, length N."""
    text_of_row: npt.NDArray[np.int64]
    """The distinct text of each row, shape (rows,)."""
    unknown: npt.NDArray[np.bool_]
    """Which distinct texts were not known when they were tokenized, shape (N,)."""
    tokens: TokenizedTexts


@dataclass(frozen=True)
class EncodedBlock:
    """Rows ready to be written."""

    table: pa.Table
    rejects: pl.DataFrame
    counts: RowCounts
    calibration: Calibration | None


class SplitStream:
    """The stream of one split; `run` may pass over the source more than once."""

    def __init__(
        self, builder: "SplitBuilder", planned: "PlannedSplit", excluded_ids: frozenset[str], sample: VectorSample
    ) -> None:
        """Prepare; nothing is read yet. `sample` is shown every vector that the encoder gives."""
        self._builder = builder
        self._context = builder.context
        self._settings = builder.context.settings
        self._planned = planned
        self._excluded_ids = pl.Series(sorted(excluded_ids), dtype=pl.String)
        self.broken: dict[str, str] = {}
        """Why objects could not be read to their end, by URI."""
        self.calibration: Calibration | None = None
        """Of the vectors that were written, when they are quantized."""
        self._sample = sample
        self._superseded: dict[RejectReason, Positions] = {}
        self._num_texts_encoded = 0
        self._num_tokens_encoded = 0

    @property
    def encoded(self) -> RowCounts:
        """What went through the encoder so far, also when the split is then built without some object."""
        return RowCounts(num_texts_encoded=self._num_texts_encoded, num_tokens_encoded=self._num_tokens_encoded)

    def run(self) -> tuple[list[ShardRecord], RowCounts]:
        """Write the split's shards and rejected rows; give the shards and what became of the rows.

        Raises:
            BrokenObjectError: when an object cannot be read to its end (`broken` then lists all such objects of the
                split); nothing of the split is kept.
            InterruptedError: when the builder was told to stop; nothing of the split is kept.
        """
        while True:
            written = self._pass()
            if written is not None:
                shards, counts = written
                return shards, RowCounts.total([counts, self.encoded]).check(self._planned.split.name)

    def _pass(self) -> tuple[list[ShardRecord], RowCounts] | None:
        """Stream the split through once; None when rows turned out to be superseded, and it must be done again."""
        context, fingerprint = self._context, self._planned.fingerprint
        schema = table_schema(context.kept_schema, context.encoder.precision)
        metadata = {"sbert": context.encoder.model_dump_json()}
        counts = RowCounts()
        self.calibration = None
        with (
            KeyLedger(keep="last") as ids,
            KeyLedger(keep="first") as texts,
            ShardWriter(context.table_uri, fingerprint, schema, self._settings.shards, metadata) as shards,
            RejectWriter(join(context.table_uri, rejects_name(fingerprint))) as rejects,
            closing(prefetch(self._tokenize(self._clean(self._read(), ids, texts)), PREFETCH_BLOCKS)) as tokenized,
            closing(prefetch(self._encode(tokenized), PREFETCH_BLOCKS)) as encoded,
        ):
            for block in encoded:
                shards.write(block.table)
                rejects.write(block.rejects)
                counts = RowCounts.total([counts, block.counts])
                if block.calibration is not None:
                    self.calibration = block.calibration.merged(self.calibration)
                self._builder.freed_memory.give_back()
            if self.broken:
                raise BrokenObjectError(*next(iter(self.broken.items())))
            if self._found_superseded(ids, texts):
                shards.discard()
                rejects.discard()
                return None
            rejects.close()
            return shards.close(), counts

    def _found_superseded(self, ids: KeyLedger, texts: KeyLedger) -> bool:
        """Note rows that other rows of the split replace; ids first, since they decide which texts remain."""
        reason, positions = RejectReason.DUPLICATE_ID, ids.superseded()
        if not len(positions) and self._settings.cleaning.drop_duplicate_texts:
            reason, positions = RejectReason.DUPLICATE_TEXT, texts.superseded()
        if len(positions):
            self._superseded[reason] = np.union1d(self._superseded.get(reason, positions), positions)
        return len(positions) > 0

    def _read(self) -> Iterator[RowBlock]:
        """Give the split's rows in blocks of about `block_rows`, whatever the size of its objects."""
        reading = self._settings.reading
        waiting: list[RowBlock] = []
        num_waiting = 0
        for block in self._read_spans():
            if self._builder.stop.is_set():
                raise InterruptedError(f"{self._planned.split.name}: stopped on request; run again to go on")
            for part in _cut(block, reading.block_rows):
                waiting.append(part)
                num_waiting += part.num_rows_read
                if num_waiting >= reading.block_rows:
                    yield _concatenate(waiting)
                    waiting, num_waiting = [], 0
        if waiting:
            yield _concatenate(waiting)

    def _read_spans(self) -> Iterator[RowBlock]:
        """Read one object after the other; note those that break, so that one pass finds them all."""
        source, reading = self._settings.source, self._settings.reading
        for span in self._planned.split.spans:
            try:
                yield from read_span(span, source, reading, self._context.kept_schema)
            except BrokenObjectError as error:
                self.broken[error.uri] = error.detail
            except ColumnError as error:
                self.broken[span.object.uri] = str(error)

    def _clean(self, blocks: Iterable[RowBlock], ids: KeyLedger, texts: KeyLedger) -> Iterator[CleanBlock]:
        """Clean texts, and take out rows that another row of the split replaces."""
        first = 0
        for block in blocks:
            cleaned = clean(block.rows, self._settings.cleaning)
            rows = cleaned.rows
            superseded = pl.Series(~rows.select(pl.struct("source", "id").is_last_distinct()).to_series())
            rejects = [
                block.rejects,
                cleaned.rejects,
                self._reject(rows, superseded, RejectReason.DUPLICATE_ID),
            ]
            rows = rows.filter(~superseded)
            positions = np.arange(first, first + rows.height, dtype=np.int64)
            first += rows.height
            for reason, excluded in self._superseded.items():
                out = pl.Series(np.isin(positions, excluded), dtype=pl.Boolean)
                rejects.append(self._reject(rows, out, reason))
                rows, positions = rows.filter(~out), positions[~out.to_numpy()]
            if len(self._excluded_ids):
                out = rows["id"].is_in(self._excluded_ids.implode())
                rejects.append(self._reject(rows, out, RejectReason.DUPLICATE_ID))
                rows, positions = rows.filter(~out), positions[~out.to_numpy()]
            ids.add(row_keys(rows, "source", "id"), positions)
            if self._settings.cleaning.drop_duplicate_texts:
                texts.add(row_keys(rows, "source", "text_hash"), positions)
            yield CleanBlock(block.num_rows_read, rows, pl.concat(rejects))

    def _tokenize(self, blocks: Iterable[CleanBlock]) -> Iterator[TokenizedBlock]:
        """Find the distinct texts of each block and tokenize those whose vector is not known."""
        for block in blocks:
            hashes = hash_matrix(block.rows["text_hash"].to_arrow())
            first, text_of_row = distinct_rows(hashes)
            texts, distinct = block.rows["text"], hashes
            if len(first) < len(hashes):
                texts, distinct = texts.gather(first), hashes[first]
            unknown = ~self._builder.known.is_known(distinct)
            yield TokenizedBlock(
                block=block,
                hashes=distinct,
                texts=texts,
                text_of_row=text_of_row,
                unknown=unknown,
                tokens=self._tokens_of(texts.filter(pl.Series(unknown, dtype=pl.Boolean))),
            )

    def _tokens_of(self, texts: pl.Series) -> TokenizedTexts:
        encoding = self._settings.encoding
        windows = encoding.windows if encoding.truncation is TruncationPolicy.WINDOW else None
        return self._builder.encoder.tokenize(texts, prompt=self._context.encoder.prompt, windows=windows)

    def _encode(self, blocks: Iterable[TokenizedBlock]) -> Iterator[EncodedBlock]:
        """Give every row its vector: the known one, or a new one."""
        encoder, known = self._builder.encoder, self._builder.known
        rejecting = self._settings.encoding.truncation is TruncationPolicy.REJECT
        for tokenized in blocks:
            with self._builder.encode_lock:
                found = known.find(tokenized.hashes)
                embeddings, num_tokens, truncated = found.embeddings, found.num_tokens, found.truncated
                new = ~found.found
                tokens = tokenized.tokens
                if not np.array_equal(new, tokenized.unknown):  # another split has encoded some of them meanwhile
                    tokens = self._tokens_of(tokenized.texts.filter(pl.Series(new, dtype=pl.Boolean)))
                num_tokens[new], truncated[new] = tokens.num_tokens, tokens.truncated
                if rejecting and tokens.truncated.any():
                    new &= ~truncated
                    tokens = self._tokens_of(tokenized.texts.filter(pl.Series(new, dtype=pl.Boolean)))
                if new.any():
                    vectors = encoder.encode_tokens(
                        tokens,
                        token_budget=self._settings.encoding.token_budget,
                        should_stop=self._builder.stop.is_set,
                    )
                    stored = self._reduce(tokenized.hashes[new], vectors)
                    known.add_computed(tokenized.hashes[new], stored, num_tokens[new], truncated[new])
                    if new.all():
                        embeddings = stored
                    else:
                        embeddings[new] = stored
                    self._num_texts_encoded += int(new.sum())
                    self._num_tokens_encoded += len(tokens.input_ids)
            yield self._assemble(tokenized, embeddings, num_tokens, truncated, found.in_table, rejecting=rejecting)

    def _reduce(self, hashes: npt.NDArray[np.uint8], vectors_ND: npt.NDArray[np.float32]) -> StoredVectors:
        """Check new vectors and give them as the table stores them."""
        info, what = self._context.encoder, self._planned.split.name
        check_vectors(vectors_ND, dim=info.full_dim, normalized=info.normalized, what=what)
        if not info.is_reduced:
            return vectors_ND
        self._sample.add(hashes, vectors_ND)
        self._builder.first_look.add(hashes, vectors_ND)
        stored = reduce_vectors(vectors_ND, dim=info.dim, precision=info.precision, normalize=info.normalized)
        check_vectors(
            restore(stored),
            dim=info.dim,
            normalized=info.normalized,
            what=f"{what} as {info.precision.value}",
            tolerance=norm_tolerance(stored),
        )
        return stored

    def _assemble(
        self,
        tokenized: TokenizedBlock,
        embeddings: StoredVectors,
        num_tokens: npt.NDArray[np.int32],
        truncated: npt.NDArray[np.bool_],
        in_table: npt.NDArray[np.bool_],
        *,
        rejecting: bool,
    ) -> EncodedBlock:
        """Give each row the vector of its text, and count."""
        block, of_row = tokenized.block, tokenized.text_of_row
        rows, rejects = block.rows, block.rejects
        if rejecting:
            out = pl.Series(truncated[of_row], dtype=pl.Boolean)
            detail = (
                pl.Series(num_tokens[of_row]).filter(out).cast(pl.String)
                + f" tokens, the encoder takes {self._context.encoder.max_seq_length}"
            )
            rejects = pl.concat([rejects, self._reject(rows, out, RejectReason.TOO_MANY_TOKENS, detail)])
            rows, of_row = rows.filter(~out), of_row[~out.to_numpy()]
        self._builder.count_rows(block.num_rows_read)
        kept = rows.select(pl.col(KEPT_PREFIX + name).alias(name) for name in self._context.kept_schema)
        is_row_for_row = len(of_row) == len(embeddings) and np.array_equal(of_row, np.arange(len(of_row)))
        stored = embeddings if is_row_for_row else embeddings[of_row]
        table = pa.table(
            {
                "id": rows["id"].to_arrow(),
                "source": rows["source"].to_arrow(),
                "text_hash": rows["text_hash"].to_arrow(),
                **vector_columns(stored),
                "num_tokens": num_tokens[of_row],
                "truncated": truncated[of_row],
                **{name: kept[name].to_arrow() for name in kept.columns},
            }
        )
        num_carried = int(in_table[of_row].sum())
        counts = RowCounts(
            num_rows_read=block.num_rows_read,
            num_rows_encoded=rows.height - num_carried,
            num_rows_carried=num_carried,
            num_rows_rejected=rejects.height,
            num_rows_truncated=int(truncated[of_row].sum()),
            rejects_by_reason=dict(Counter(rejects["reason"].to_list())),
        )
        return EncodedBlock(table, rejects, counts, Calibration.of(stored))

    def _reject(
        self, rows: pl.DataFrame, out: pl.Series, reason: RejectReason, detail: pl.Series | None = None
    ) -> pl.DataFrame:
        """Describe the rows marked in `out` as rejected."""
        chosen = rows.filter(out)
        return chosen.select(
            "source",
            "row",
            "id",
            pl.lit(reason.value).alias("reason"),
            pl.lit(SUPERSEDED_DETAILS[reason]).alias("detail") if detail is None else detail.alias("detail"),
            original_of(chosen).alias("original"),
        ).cast(REJECT_SCHEMA)


def _cut(block: RowBlock, block_rows: int) -> Iterator[RowBlock]:
    """Cut a block that is too large; its rejects go with the first part."""
    rejects = block.rejects
    for first in range(0, max(block.rows.height, 1), block_rows):
        yield RowBlock(block.rows.slice(first, block_rows), rejects)
        rejects = rejects.clear()


def _concatenate(blocks: list[RowBlock]) -> RowBlock:
    if len(blocks) == 1:
        return blocks[0]
    return replace(
        blocks[0],
        rows=pl.concat([block.rows for block in blocks]),
        rejects=pl.concat([block.rejects for block in blocks]),
    )
