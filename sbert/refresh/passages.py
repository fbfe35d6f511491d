"""Passages in a refresh: which rows are cut, with which encoder's tokens, and where the settings come from."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.errors import SettingsError
from sbert.refresh.build_spec import BuildSpec
from sbert.refresh.job import EncodingSettings, RefreshJob, TruncationPolicy
from sbert.refresh.table_settings import SettingChange
from sbert.source.blocks import KEPT_PREFIX, RowBlock
from sbert.source.formats.all_formats import format_of
from sbert.source.objects import SourceObject
from sbert.source.passages.cutter import PASSAGE_COLUMNS, PassageCutter, TokenCounter
from sbert.source.passages.settings import PassageSettings, PassagesOf

if TYPE_CHECKING:  # a run with nothing to encode does not import torch
    from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = [
    "BlockCutter",
    "passage_columns",
    "passage_cutter",
    "passage_limit",
    "token_counter",
    "with_document_passages",
    "without_stray_documents",
]

log = logging.getLogger(__name__)

OUTLINE_COLUMN = "outline"
COUNTED_AT_ONCE = 8_192
"""Sentences that are tokenized together: a tokenizer needs about 3 KB for each, and a large document has a million."""


class BlockCutter:
    """Cuts the documents of blocks of rows; rows that are no documents pass as they are."""

    def __init__(self, cutter: PassageCutter, of: PassagesOf) -> None:
        """Cut with `cutter` the rows that `of` names."""
        self._cutter = cutter
        self._of = of

    def cut(self, block: RowBlock, block_rows: int) -> Iterator[RowBlock]:
        """Return blocks of at most `block_rows` passages; rejects come with the first, misfits with their document."""
        is_first = True
        rows = pl.concat(self._cut_runs(block.rows)) if block.rows.height else self._cutter.cut(block.rows, KEPT_PREFIX)
        begins_document = rows.select(pl.struct("source", "row").is_first_distinct()).to_series()
        for first in range(0, max(rows.height, 1), block_rows):
            part = rows.slice(first, block_rows)
            begun = part.filter(begins_document.slice(first, block_rows))
            yield RowBlock(
                part,
                block.rejects if is_first else block.rejects.clear(),
                block.misfits.join(begun, on=["source", "row"], how="semi") if block.misfits.height else block.misfits,
                num_documents_read=begun.height + (block.rejects.height if is_first else 0),
            )
            is_first = False

    def _cut_runs(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Cut runs of documents, and pass runs of other rows, in their order."""
        if self._of is PassagesOf.EVERYTHING:
            yield self._cutter.cut(rows, KEPT_PREFIX)
            return
        is_document = rows[OUTLINE_COLUMN].is_not_null() if OUTLINE_COLUMN in rows.columns else None
        if is_document is None:
            yield _whole(rows)
            return
        marks = is_document.to_numpy()
        bounds = [0, *(np.flatnonzero(marks[1:] != marks[:-1]) + 1).tolist(), rows.height]
        for first, last in itertools.pairwise(bounds):
            part = rows.slice(first, last - first)
            yield self._cutter.cut(part, KEPT_PREFIX) if marks[first] else _whole(part)


def _whole(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows that are not cut with the columns of passages: each row is its own document."""
    columns = [
        pl.col("id").alias(KEPT_PREFIX + name)
        if name == "document_id"
        else pl.lit(None, dtype=kind).alias(KEPT_PREFIX + name)
        for name, kind in PASSAGE_COLUMNS.items()
    ]
    return rows.drop(OUTLINE_COLUMN, strict=False).with_columns(columns)


def passage_cutter(spec: BuildSpec, encoder: "SentenceEncoder") -> BlockCutter | None:
    """Return the cutter of a run; None when it cuts nothing."""
    settings = spec.settings.source.passages
    if settings is None or not spec.settings.source.cuts_passages:
        return None
    limit = passage_limit(settings, spec.settings.encoding, encoder.max_seq_length)
    tokens = token_counter(encoder, spec.encoder.prompt, limit)
    return BlockCutter(PassageCutter(settings, spec.settings.cleaning, tokens), settings.of)


def token_counter(encoder: "SentenceEncoder", prompt: str, limit: int) -> TokenCounter:
    """Return how the cutter counts the tokens of an encoder, for passages of at most `limit` tokens after `prompt`."""
    num_special = int(encoder.tokenize([""], prompt="").num_tokens[0])

    def count(texts: list[str]) -> npt.NDArray[np.int64]:
        num_tokens = np.zeros(len(texts), dtype=np.int64)
        for first in range(0, len(texts), COUNTED_AT_ONCE):
            part = slice(first, first + COUNTED_AT_ONCE)
            num_tokens[part] = encoder.tokenize(texts[part], prompt="").num_tokens
        return num_tokens - num_special

    return TokenCounter(
        count=count,
        limit=limit,
        overhead=int(encoder.tokenize([""], prompt=prompt).num_tokens[0]),
    )


def passage_limit(settings: PassageSettings, encoding: EncodingSettings, max_seq_length: int) -> int:
    """Return the most tokens of a passage.

    Raises:
        SettingsError: passages would be truncated, or the overlap would leave too little that is new.
    """
    limit = settings.max_tokens or max_seq_length
    if limit > max_seq_length and encoding.truncation is not TruncationPolicy.WINDOW:
        raise SettingsError(
            f"passages.max_tokens is {limit}, and the encoder takes {max_seq_length} tokens: name at most "
            f"{max_seq_length}, or leave it out"
        )
    if settings.overlap_tokens > limit // 2:
        raise SettingsError(
            f"passages.overlap_tokens is {settings.overlap_tokens}, and a passage has at most {limit} tokens: name at most "
            f"{limit // 2}"
        )
    return limit


def passage_columns(keep_columns: Sequence[str]) -> tuple[str, ...]:
    """Return the kept columns that are read from the source, where documents are cut into passages.

    Raises:
        SettingsError: when one has the name of a column of passages. ``headings`` may be named: each passage has its own.
    """
    clash = [name for name in keep_columns if name in PASSAGE_COLUMNS and name != "headings"]
    if clash:
        raise SettingsError(
            f"keep_columns names {', '.join(clash)}, which a table of passages uses for itself "
            f"({', '.join(PASSAGE_COLUMNS)}): leave them out or rename them in the source"
        )
    return tuple(name for name in keep_columns if name not in PASSAGE_COLUMNS)


def without_stray_documents(job: RefreshJob, objects: Sequence[SourceObject]) -> list[SourceObject]:
    """Leave documents out that lie among other objects, such as a README beside the data, unless the job names passages."""
    documents = [item for item in objects if format_of(item.format).is_document]
    if job.settings.source.passages is not None or len(documents) in {0, len(objects)}:
        return list(objects)
    log.warning(
        "%s: %d documents among other objects are passed over, such as %s: --passages documents "
        "(setting source.passages.of) reads them too and cuts them into passages",
        job.raw_uri,
        len(documents),
        documents[0].uri,
    )
    return [item for item in objects if not format_of(item.format).is_document]


def with_document_passages(
    job: RefreshJob, objects: Sequence[SourceObject], *, is_new: bool
) -> tuple[RefreshJob, tuple[SettingChange, ...]]:
    """Return a job that cuts documents, if it says nothing of passages and the objects are documents.

    The second value names this as a change of the table's settings, unless the table is new.
    """
    source = job.settings.source
    if source.passages is not None or not any(format_of(item.format).is_document for item in objects):
        return job, ()
    passages = PassageSettings(of=PassagesOf.DOCUMENTS)
    settings = job.settings.model_copy(update={"source": source.model_copy(update={"passages": passages})})
    change = SettingChange(name="source.passages", before=None, after=passages.model_dump(mode="json"))
    return job.model_copy(update={"settings": settings}), () if is_new else (change,)
