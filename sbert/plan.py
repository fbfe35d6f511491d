"""What a refresh has to do: a set difference between the splits in the source and the shards in the table.

The one idea: a split's fingerprint hashes everything that decides its rows (objects and their versions, which columns
are read, cleaning, encoder), and its shards carry the fingerprint in their names. So ``wanted - have`` is to be built,
``have - wanted`` is to be dropped, and nothing else is remembered between runs.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder import DEFAULT_MODEL, ComputeDtype, SentenceEncoder
from sbert.errors import EncoderMismatchError
from sbert.job import EncodingSettings, RefreshJob, RefreshSettings, TruncationPolicy
from sbert.loading import EncoderSpec, load_encoder
from sbert.records import SplitRecord, completed_splits
from sbert.registry import resolve_model
from sbert.source import Split, infer_kept_schema, list_objects, make_splits, with_first_rows
from sbert.storage import normalize_uri
from sbert.table import EncoderInfo, Table, TableShard, find_table

__all__ = [
    "Plan",
    "PlannedSplit",
    "encoder_spec",
    "encoding_fingerprint",
    "identity_fingerprint",
    "make_plan",
    "split_fingerprint",
    "without_objects",
]

log = logging.getLogger(__name__)

FORMAT = 1
"""Raised when the same settings would give other rows than before, so that everything is built anew."""
FINGERPRINT_CHARACTERS = 32


class PlannedSplit(BaseModel):
    """A split of the source with the name its rows go by."""

    model_config = ConfigDict(frozen=True)

    split: Split
    fingerprint: str


class Plan(BaseModel):
    """What a refresh has to do, and against which version of the table that was found."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    raw_uri: str
    table_uri: str
    base_version: int | None = Field(description="Version of the table the plan starts from; empty for a new table.")
    encoder: EncoderInfo
    encoder_spec: EncoderSpec
    rows_fingerprint: str = Field(description="Hash of everything but the source objects that decides the rows.")
    kept_schema: dict[str, pl.DataType]
    num_objects: int
    num_bytes: int
    build: list[PlannedSplit] = Field(description="Splits to build: neither in the table nor completed before.")
    resume: list[SplitRecord] = Field(description="Splits that an earlier, interrupted run completed.")
    keep: list[PlannedSplit] = Field(description="Splits whose rows the table has.")
    drop: list[TableShard] = Field(description="Shards whose split is no longer in the source.")

    @property
    def is_empty(self) -> bool:
        """Whether the table already shows the source."""
        return not (self.build or self.resume or self.drop) and self.base_version is not None

    @property
    def num_splits_dropped(self) -> int:
        """Splits of the table that are no longer wanted."""
        return len({shard.fingerprint for shard in self.drop})


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def encoder_spec(job: RefreshJob, table: Table | None) -> EncoderSpec:
    """Decide which encoder a refresh uses: the one that is named, else the table's own, else the packaged default."""
    encoding = job.settings.encoding
    model = job.model or (table.encoder.model if table else DEFAULT_MODEL)
    if _is_folder(model):
        # The table names the version, not the registry: readers then find the encoder that made its vectors.
        model = resolve_model(normalize_uri(model))
    same_model = table is not None and model == table.encoder.model
    inherited = table.encoder if table is not None and same_model else None
    return EncoderSpec(
        model=model,
        max_seq_length=encoding.max_seq_length or (inherited.max_seq_length if inherited else None),
        compute_dtype=encoding.compute_dtype or ComputeDtype(inherited.compute_dtype if inherited else "float32"),
        normalize=encoding.normalize if encoding.normalize is not None else (inherited is None or inherited.normalized),
    )


def _is_folder(model: str) -> bool:
    return model.startswith((".", "/", "~")) or "://" in model or Path(model).is_dir()


def encoding_fingerprint(encoder: SentenceEncoder, encoding: EncodingSettings) -> str:
    """Give the hash of everything that decides the vector of a cleaned text: encoder, prompt and windows."""
    windows = encoding.windows.model_dump(mode="json") if encoding.truncation is TruncationPolicy.WINDOW else None
    return _hash([FORMAT, encoder.fingerprint, document_prompt(encoder, encoding), windows])


def document_prompt(encoder: SentenceEncoder, encoding: EncodingSettings) -> str:
    """Give the text put before each document."""
    return encoder.prompt_for("document") if encoding.prompt is None else encoding.prompt


def encoder_info(spec: EncoderSpec, encoder: SentenceEncoder, encoding: EncodingSettings) -> EncoderInfo:
    """Describe an encoder as the table's readers need it."""
    return EncoderInfo(
        model=spec.model,
        fingerprint=encoding_fingerprint(encoder, encoding),
        model_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        pooling=encoder.pooling_name,
        normalized=encoder.normalizes,
        compute_dtype=str(encoder.compute_dtype.value),
        max_seq_length=encoder.max_seq_length,
        truncation=encoding.truncation.value,
        prompt=document_prompt(encoder, encoding),
    )


def rows_fingerprint(encoder_fingerprint: str, settings: RefreshSettings) -> str:
    """Give the hash of everything but the source objects that decides the rows of a split."""
    return _hash(
        [
            FORMAT,
            encoder_fingerprint,
            settings.source.model_dump(mode="json"),
            settings.cleaning.model_dump(mode="json"),
            settings.encoding.truncation.value == TruncationPolicy.REJECT.value,
        ]
    )


def split_fingerprint(split: Split, rows: str) -> str:
    """Give the name that the rows of a split go by: 32 hex digits."""
    return identity_fingerprint(split.identity(), rows)


def identity_fingerprint(identity: Sequence[Sequence[str | int | None]], rows: str) -> str:
    """Give the name of rows made of the objects of `identity`: (uri, version, start, stop) each."""
    return _hash([rows, identity])[:FINGERPRINT_CHARACTERS]


def without_objects(planned: PlannedSplit, uris: set[str], rows: str) -> PlannedSplit | None:
    """Give a split without the objects of `uris`, named by what is left; None when nothing is."""
    spans = tuple(span for span in planned.split.spans if span.object.uri not in uris)
    if not spans:
        return None
    split = Split(spans=spans, name=planned.split.name)
    return PlannedSplit(split=split, fingerprint=split_fingerprint(split, rows))


def check_same_encoder(job: RefreshJob, table: Table, info: EncoderInfo) -> None:
    """Refuse to change a table's encoder unless a model was named, and never to another dim.

    Raises:
        EncoderMismatchError: naming both encoders and the remedy.
    """
    if info.dim != table.encoder.dim:
        table.check_encoder(info.fingerprint, info.dim)
    if info.fingerprint == table.encoder.fingerprint:
        return
    if job.model is None:
        raise EncoderMismatchError(
            f"{table.uri}: the table was made by {table.encoder.model} with fingerprint "
            f"{table.encoder.fingerprint[:12]}, the encoder there is now {info.fingerprint[:12]} (the model folder or an "
            f"encoding setting changed): pass --model {table.encoder.model} to re-embed every row and switch the table in "
            "one step, or restore the model and settings"
        )
    log.warning(
        "the table's encoder %s (%s) is replaced by %s (%s): every row is embedded anew and one commit switches the table",
        table.encoder.model,
        table.encoder.fingerprint[:12],
        info.model,
        info.fingerprint[:12],
    )


def make_plan(job: RefreshJob) -> Plan:
    """Compare source and table; nothing is written.

    Raises:
        MissingError, EmptySourceError: nothing to read at ``raw_uri``.
        ColumnError: a named column is not there.
        NotATableError: ``table_uri`` holds something else.
        EncoderMismatchError: the table's encoder is another one.
    """
    table_uri = normalize_uri(job.table_uri)
    settings = job.settings
    table = find_table(table_uri)
    objects = list_objects(job.raw_uri)
    spec = encoder_spec(job, table)
    info = encoder_info(spec, load_encoder(spec), settings.encoding)
    if table is not None:
        check_same_encoder(job, table, info)
    rows = rows_fingerprint(info.fingerprint, settings)
    wanted = [
        PlannedSplit(split=split, fingerprint=split_fingerprint(split, rows))
        for split in make_splits(objects, settings.splits)
    ]
    shards = table.shards() if table is not None else []
    have = {shard.fingerprint for shard in shards}
    missing = [planned for planned in wanted if planned.fingerprint not in have]
    completed = completed_splits(table_uri, [planned.fingerprint for planned in missing]) if missing else {}
    build = [planned for planned in missing if planned.fingerprint not in completed]
    kept_schema = infer_kept_schema(objects, settings.source) if build or table is None else {}
    if table is not None and set(table.kept_schema) == set(settings.source.keep_columns):
        kept_schema = table.kept_schema  # types stay what they are, whatever the newest object looks like
    numbered = with_first_rows([planned.split for planned in build])
    return Plan(
        raw_uri=normalize_uri(job.raw_uri),
        table_uri=table_uri,
        base_version=table.version if table is not None else None,
        encoder=info,
        encoder_spec=spec,
        rows_fingerprint=rows,
        kept_schema={name: kept_schema[name] for name in settings.source.keep_columns},
        num_objects=len(objects),
        num_bytes=sum(item.num_bytes for item in objects),
        build=[
            PlannedSplit(split=split, fingerprint=planned.fingerprint)
            for split, planned in zip(numbered, build, strict=True)
        ],
        resume=list(completed.values()),
        keep=[planned for planned in wanted if planned.fingerprint in have],
        drop=[shard for shard in shards if shard.fingerprint not in {planned.fingerprint for planned in wanted}],
    )
