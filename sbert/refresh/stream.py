"""One split as a stream of blocks: read, clean, tokenize, encode, write, each stage ahead of the next.

Blocks of some thousand rows pass through threads. So storage, tokenizer, encoder and writer work at the same time, and
memory holds a handful of blocks whatever the object's size. A text whose vector is cached, from the table or from earlier
in the run, never reaches the encoder. When a later row turns out to have the id of an earlier row, the split streams through
once more without the earlier row. By then its vectors are cached, so nothing is encoded twice.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.refresh.build_spec import BuildSpec
from sbert.refresh.duplicate_rows import DuplicateRows, describe_rejects
from sbert.refresh.erased_rows import without_erased_keys, without_erased_texts
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import TruncationPolicy
from sbert.refresh.passages import BlockCutter, passage_cutter
from sbert.refresh.reject_writer import RejectWriter
from sbert.refresh.split_reader import SplitReader
from sbert.refresh.worker_state import WorkerState
from sbert.rows.cleaning import clean
from sbert.rows.counts import RowCounts
from sbert.rows.rejects import RejectReason
from sbert.runtime.prefetch import prefetch
from sbert.source.blocks import KEPT_PREFIX, RowBlock
from sbert.storage.files import join
from sbert.table.quantization_recall import VectorSample
from sbert.table.shards import ShardRecord, ShardWriter, table_schema, vector_columns
from sbert.table.split_records import misfits_name, rejects_name
from sbert.table.text_index import distinct_rows, hash_matrix
from sbert.vectors.checks import check_vectors
from sbert.vectors.precision import QuantizationStatistics, StoredVectors, norm_tolerance, reduce_vectors, restore

__all__ = ["StreamResult", "stream_split"]

PREFETCH_BLOCKS = 2


@dataclass(frozen=True)
class CleanBlock:
    """Cleaned rows and the rejects so far."""

    num_rows_read: int
    rows: pl.DataFrame
    rejects: pl.DataFrame
    misfits: pl.DataFrame
    """Kept values that do not fit their column, of these rows and of rejected ones."""
    num_documents_read: int


@dataclass(frozen=True)
class TokenizedBlock:
    """A clean block with its N distinct texts; texts whose vector is not cached are tokenized."""

    block: CleanBlock
    hashes: npt.NDArray[np.uint8]
    """Hash of each distinct text, shape (N, 16)."""
    texts: pl.Series
    """The distinct texts, length N."""
    text_of_row: npt.NDArray[np.int64]
    """The distinct text of each row, shape (rows,)."""
    is_new: npt.NDArray[np.bool_]
    """True for each distinct text that was not cached when it was tokenized, shape (N,)."""
    tokens: TokenizedTexts


@dataclass(frozen=True)
class EncodedBlock:
    """Rows ready to be written."""

    table: pa.Table
    rejects: pl.DataFrame
    misfits: pl.DataFrame
    counts: RowCounts
    calibration: QuantizationStatistics | None


@dataclass(frozen=True)
class StreamResult:
    """The outcome of one split."""

    shards: list[ShardRecord] = field(default_factory=list)
    """Empty when an object broke."""
    counts: RowCounts = field(default_factory=RowCounts)
    """Counts of the rows; when an object broke, only the texts that went through the encoder are counted."""
    calibration: QuantizationStatistics | None = None
    """Statistics of the vectors that were written; None when they are not quantized."""
    broken: dict[str, str] = field(default_factory=dict)
    """Why each unreadable object could not be read to its end, by URI. With any entry, nothing of the split is kept."""
    rows_before_break: dict[str, int] = field(default_factory=dict)
    """Number of whole rows of each object that breaks off after them, by URI."""


def stream_split(
    spec: BuildSpec, state: WorkerState, planned: PlannedSplit, excluded_ids: frozenset[str], sample: VectorSample
) -> StreamResult:
    """Write the shards and the rejected rows of a split.

    Args:
        spec: how splits are built.
        state: what this process holds for the run.
        planned: the split.
        excluded_ids: ids that a later split of the same object has; their rows are rejected as duplicates.
        sample: is shown every vector that the encoder returns.

    Raises:
        InterruptedError: when `state.stop` was set; nothing of the split is kept.
        QualityError: when a vector must not be published.
        StorageError: when storage fails.
    """
    return _SplitStream(spec, state, planned, excluded_ids, sample).run()


class _SplitStream:
    """The stream of one split; `run` may pass over the source more than once."""

    def __init__(
        self,
        spec: BuildSpec,
        state: WorkerState,
        planned: PlannedSplit,
        excluded_ids: frozenset[str],
        sample: VectorSample,
    ) -> None:
        self._spec = spec
        self._state = state
        self._settings = spec.settings
        self._planned = planned
        self._excluded_ids = pl.Series(sorted(excluded_ids), dtype=pl.String)
        self._sample = sample
        self._ids = DuplicateRows(RejectReason.DUPLICATE_ID, ("source", "id"), keep="last")
        self._texts = DuplicateRows(RejectReason.DUPLICATE_TEXT, ("source", "text_hash"), keep="first")
        self._cutter = passage_cutter(spec, state.encoder)
        self._last_document: tuple[str, str] | None = None
        self._num_texts_encoded = 0
        self._num_tokens_encoded = 0

    def run(self) -> StreamResult:
        """Pass over the source until no row supersedes another."""
        while True:
            result = self._pass()
            if result is not None:
                encoded = RowCounts(
                    num_texts_encoded=self._num_texts_encoded, num_tokens_encoded=self._num_tokens_encoded
                )
                counts = RowCounts.total([result.counts, encoded]).check(self._planned.split.name)
                return replace(result, counts=counts)

    def _pass(self) -> StreamResult | None:
        """Stream the split once; None when a later row replaces a row already written: then stream it again."""
        spec, fingerprint = self._spec, self._planned.fingerprint
        self._state.work.begin(fingerprint)
        self._last_document = None
        schema = table_schema(spec.kept_schema, spec.encoder.precision)
        metadata = {"sbert": spec.encoder.model_dump_json()}
        source = SplitReader(
            self._planned.split,
            self._settings.source,
            self._settings.reading,
            spec.source_schema,
            check_running=self._state.check_running,
        )
        counts = RowCounts()
        calibration: QuantizationStatistics | None = None
        with (
            self._ids,
            self._texts,
            ShardWriter(spec.table_uri, fingerprint, schema, self._settings.shards, metadata) as shards,
            RejectWriter(join(spec.table_uri, rejects_name(fingerprint))) as rejects,
            RejectWriter(join(spec.table_uri, misfits_name(fingerprint))) as misfits,
            closing(self._passages(self._without_erased(source.blocks()))) as passages,
            closing(prefetch(self._tokenize(self._clean(passages)), PREFETCH_BLOCKS)) as tokenized,
            closing(prefetch(self._encode(tokenized), PREFETCH_BLOCKS)) as encoded,
        ):
            for block in encoded:
                shards.write(block.table)
                rejects.write(block.rejects)
                misfits.write(block.misfits)
                counts = RowCounts.total([counts, block.counts])
                if block.calibration is not None:
                    calibration = block.calibration.merged(calibration)
                self._state.freed_memory.give_back()
            if source.broken or self._has_duplicates():
                shards.discard()
                rejects.discard()
                misfits.discard()
                if not source.broken:
                    return None
                return StreamResult(broken=source.broken, rows_before_break=source.rows_before_break)
            rejects.close()
            misfits.close()
            return StreamResult(shards=shards.close(), counts=counts, calibration=calibration)

    def _has_duplicates(self) -> bool:
        """Note rows that others replace. Ids come first, since they decide which texts remain."""
        return self._ids.note() or (self._settings.cleaning.drop_duplicate_texts and self._texts.note())

    def _without_erased(self, blocks: Generator[RowBlock, None, None]) -> Generator[RowBlock, None, None]:
        """Take out rows, and whole documents, that a person erased."""
        for block in blocks:
            yield without_erased_keys(block, self._state.tombstones)

    def _passages(self, blocks: Generator[RowBlock, None, None]) -> Generator[RowBlock, None, None]:
        """Return blocks of passages, if the run cuts documents, else the blocks as they are."""
        return blocks if self._cutter is None else prefetch(self._cut(self._cutter, blocks), PREFETCH_BLOCKS)

    def _cut(self, cutter: BlockCutter, blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
        """Cut documents into passages; documents whose id comes again are taken out before."""
        for block in blocks:
            documents, rejects = self._with_unique_ids(block.rows)
            whole = replace(block, rows=documents, rejects=pl.concat([block.rejects, rejects]))
            yield from cutter.cut(whole, self._settings.reading.block_rows)

    def _clean(self, blocks: Iterable[RowBlock]) -> Iterator[CleanBlock]:
        """Clean texts, and take out rows that another row of the split replaces."""
        for read in blocks:
            block = read if self._cutter is None else without_erased_keys(read, self._state.tombstones)
            cleaned = clean(block.rows, self._settings.cleaning)
            rows, erased = without_erased_texts(cleaned.rows, self._state.tombstones)
            rejects = [block.rejects, cleaned.rejects, erased]
            if self._cutter is None:
                rows, duplicates = self._with_unique_ids(rows)
                rejects.append(duplicates)
            if self._settings.cleaning.drop_duplicate_texts:
                rows, duplicates = self._texts.take_out(rows)
                rejects.append(duplicates)
            yield CleanBlock(block.num_rows_read, rows, pl.concat(rejects), block.misfits, block.num_documents_read)

    def _with_unique_ids(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows whose id no later row has, and the others as rejected rows."""
        is_last = rows.select(pl.struct("source", "id").is_last_distinct()).to_series()
        out = ~is_last | rows["id"].is_in(self._excluded_ids.implode())
        kept, rejects = self._ids.take_out(rows.filter(~out))
        return kept, pl.concat([describe_rejects(rows, out, RejectReason.DUPLICATE_ID), rejects])

    def _tokenize(self, blocks: Iterable[CleanBlock]) -> Iterator[TokenizedBlock]:
        """Find the distinct texts of each block, and tokenize the texts whose vector is not cached."""
        for block in blocks:
            hashes = hash_matrix(block.rows["text_hash"].to_arrow())
            first, text_of_row = distinct_rows(hashes)
            texts, distinct = block.rows["text"], hashes
            if len(first) < len(hashes):
                texts, distinct = texts.gather(first), hashes[first]
            is_new = ~self._state.vector_cache.may_have(distinct)
            yield TokenizedBlock(
                block=block,
                hashes=distinct,
                texts=texts,
                text_of_row=text_of_row,
                is_new=is_new,
                tokens=self._tokens_of(texts.filter(pl.Series(is_new, dtype=pl.Boolean))),
            )

    def _tokens_of(self, texts: pl.Series) -> TokenizedTexts:
        encoding = self._settings.encoding
        windows = encoding.windows if encoding.truncation is TruncationPolicy.WINDOW else None
        return self._state.encoder.tokenize(texts, prompt=self._spec.encoder.prompt, windows=windows)

    def _encode(self, blocks: Iterable[TokenizedBlock]) -> Iterator[EncodedBlock]:
        """Find or compute the vector of every row."""
        encoder, vector_cache = self._state.encoder, self._state.vector_cache
        rejecting = self._settings.encoding.truncation is TruncationPolicy.REJECT
        for tokenized in blocks:
            with self._state.encode_lock:
                cached = vector_cache.lookup(tokenized.hashes)
                embeddings, num_tokens, truncated = cached.embeddings, cached.num_tokens, cached.truncated
                new = ~cached.hits
                tokens = tokenized.tokens
                if not np.array_equal(new, tokenized.is_new):  # another split has encoded some of them meanwhile
                    tokens = self._tokens_of(tokenized.texts.filter(pl.Series(new, dtype=pl.Boolean)))
                num_tokens[new], truncated[new] = tokens.num_tokens, tokens.truncated
                if rejecting and tokens.truncated.any():
                    new &= ~truncated
                    tokens = self._tokens_of(tokenized.texts.filter(pl.Series(new, dtype=pl.Boolean)))
                if new.any():
                    vectors = encoder.encode_tokens(
                        tokens,
                        token_budget=self._settings.encoding.token_budget,
                        should_stop=self._state.stop.is_set,
                    )
                    stored = self._reduce(tokenized.hashes[new], vectors)
                    vector_cache.add_computed(tokenized.hashes[new], stored, num_tokens[new], truncated[new])
                    if new.all():
                        embeddings = stored
                    else:
                        embeddings[new] = stored
                    self._num_texts_encoded += int(new.sum())
                    self._num_tokens_encoded += len(tokens.input_ids)
                    self._state.work.add(self._planned.fingerprint, num_tokens=len(tokens.input_ids))
            yield self._assemble(tokenized, embeddings, num_tokens, truncated, cached.in_table, rejecting=rejecting)

    def _reduce(self, hashes: npt.NDArray[np.uint8], vectors_ND: npt.NDArray[np.float32]) -> StoredVectors:
        """Check new vectors and return them as the table stores them."""
        info, what = self._spec.encoder, self._planned.split.name
        check_vectors(vectors_ND, dim=info.full_dim, normalized=info.normalized, what=what)
        if not info.is_reduced:
            return vectors_ND
        self._sample.add(hashes, vectors_ND)
        self._state.first_look.add(hashes, vectors_ND)
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
        """Join the rows with the vectors of their texts, and count."""
        block, of_row = tokenized.block, tokenized.text_of_row
        rows, rejects = block.rows, block.rejects
        if rejecting:
            out = pl.Series(truncated[of_row], dtype=pl.Boolean)
            detail = (
                pl.Series(num_tokens[of_row]).filter(out).cast(pl.String)
                + f" tokens, the encoder takes {self._spec.encoder.max_seq_length}"
            )
            rejects = pl.concat([rejects, describe_rejects(rows, out, RejectReason.TOO_MANY_TOKENS, detail)])
            rows, of_row = rows.filter(~out), of_row[~out.to_numpy()]
        self._state.work.add(self._planned.fingerprint, num_rows=block.num_rows_read)
        kept = rows.select(pl.col(KEPT_PREFIX + name).alias(name) for name in self._spec.kept_schema)
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
        misfits = block.misfits
        if misfits.height:  # of rows that are not rejected
            misfits = misfits.join(rows.select("source", "row"), on=["source", "row"], how="semi")
        num_carried = int(in_table[of_row].sum())
        counts = RowCounts(
            num_rows_read=block.num_rows_read,
            num_rows_encoded=rows.height - num_carried,
            num_rows_carried=num_carried,
            num_rows_rejected=rejects.height,
            num_rows_truncated=int(truncated[of_row].sum()),
            num_documents_read=block.num_documents_read,
            num_documents_written=self._num_documents(rows),
            rejects_by_reason=dict(Counter(rejects["reason"].to_list())),
            misfits_by_column=dict(Counter(misfits["column"].to_list())),
        )
        return EncodedBlock(table, rejects, misfits, counts, QuantizationStatistics.of(stored))

    def _num_documents(self, rows: pl.DataFrame) -> int:
        """Return how many documents begin in the next rows that are written; 0 when the run cuts none."""
        if self._cutter is None or not rows.height:
            return 0
        documents = rows.select("source", document=pl.coalesce(KEPT_PREFIX + "document_id", "id"))
        last, self._last_document = self._last_document, documents.row(-1)
        return documents.unique().height - (documents.row(0) == last)
