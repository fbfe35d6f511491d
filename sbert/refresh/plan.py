"""What a refresh has to do: a set difference between the splits in the source and the shards in the table.

The one idea: a split's fingerprint hashes everything that decides its rows (objects and their versions, which columns
are read, cleaning, encoder), and its shards carry the fingerprint in their names. So ``wanted - have`` is to be built,
``have - wanted`` is to be dropped, and nothing else is remembered between runs.
"""

import logging
import re
from pathlib import Path

import polars as pl
from fsspec.utils import glob_translate
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.process_cache import EncoderSpec, load_encoder
from sbert.encoder.sentence_encoder import DEFAULT_MODEL, ComputeDtype, SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import EncoderMismatchError, SettingsError
from sbert.refresh.deletion_limit import Losses, foresee_losses
from sbert.refresh.fingerprints import (
    FORMAT,
    PlannedSplit,
    hash_json,
    identity_fingerprint,
    rows_fingerprint,
    split_fingerprint,
    without_objects,
)
from sbert.refresh.job import EncodingSettings, RefreshJob, TruncationPolicy
from sbert.refresh.split_selection import choose
from sbert.registry.pointer import resolve_model
from sbert.runtime.memory import share_heaps
from sbert.source.objects import SourceObject, list_objects
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import SourceSettings
from sbert.source.splits import with_first_rows
from sbert.storage.files import join, normalize_uri
from sbert.table.delta import EncoderInfo, Table, TableShard, find_table, recorded_in
from sbert.table.shard_layout import locate_splits
from sbert.table.split_records import SplitRecord, completed_splits, kept_types
from sbert.vectors.precision import MIN_RECALL, Precision

__all__ = [
    "Plan",
    "PlannedSplit",
    "encoder_spec",
    "encoding_fingerprint",
    "identity_fingerprint",
    "is_stale",
    "make_plan",
    "split_fingerprint",
    "without_objects",
]

log = logging.getLogger(__name__)


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
    shards: list[TableShard] = Field(description="Shards of the base version.")
    build: list[PlannedSplit] = Field(description="Splits to build: neither in the table nor completed before.")
    resume: list[SplitRecord] = Field(description="Splits that an earlier, interrupted run completed.")
    retype: list[SplitRecord] = Field(
        default=[],
        description="Splits that it completed with other types of kept columns: built again, from the vectors they have.",
    )
    keep: list[PlannedSplit] = Field(description="Splits whose rows the table has.")
    gone: frozenset[str] = Field(description="Splits that leave the table, by fingerprint.")
    chosen: frozenset[str] | None = Field(
        default=None, description="Objects a backfill works on, by URI; all others keep their rows. None: all."
    )
    force: bool = Field(default=False, description="Whether vectors are computed anew.")
    losses: Losses = Field(default=Losses(), description="Rows and objects that disappear.")

    @property
    def is_empty(self) -> bool:
        """Whether the table already shows the source."""
        return not (self.build or self.resume or self.gone) and self.base_version is not None

    @property
    def have(self) -> frozenset[str]:
        """Splits of the base version, by fingerprint."""
        return frozenset(fingerprint for shard in self.shards for fingerprint in shard.fingerprints)

    @property
    def drop(self) -> list[TableShard]:
        """Shards that hold rows of splits that leave the table."""
        return [shard for shard in self.shards if shard.fingerprints & self.gone]

    @property
    def num_splits_dropped(self) -> int:
        """Splits of the table that are no longer wanted."""
        return len(self.gone)


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
        compute_dtype=encoding.compute_dtype or (ComputeDtype(inherited.compute_dtype) if inherited else None),
        normalize=encoding.normalize if encoding.normalize is not None else (inherited is None or inherited.normalized),
    )


def _is_folder(model: str) -> bool:
    return model.startswith((".", "/", "~")) or "://" in model or Path(model).is_dir()


def with_table_form(encoding: EncodingSettings, table: Table | None, encoder: SentenceEncoder) -> EncodingSettings:
    """Fill in how vectors are stored: as asked, else as the table's are, whatever the model; else whole, as float32.

    Raises:
        SettingsError: when more values are asked for than the encoder gives.
    """
    own = table.encoder if table is not None else None
    dim = encoding.output_dim or (own.dim if own is not None and own.dim < own.full_dim else encoder.dim)
    if dim > encoder.dim:
        raise SettingsError(
            f"output_dim is {dim}, the encoder gives {encoder.dim} values: choose {encoder.dim} at most, or another model"
        )
    min_recall = encoding.min_recall
    return encoding.model_copy(
        update={
            "precision": encoding.precision or (own.precision if own is not None else Precision.FLOAT32),
            "output_dim": dim,
            "min_recall": min_recall if min_recall is not None else own.min_recall if own is not None else MIN_RECALL,
        }
    )


def encoding_fingerprint(encoder: SentenceEncoder, encoding: EncodingSettings) -> str:
    """Give the hash of everything that decides the stored vector of a cleaned text: encoder, prompt, windows, form."""
    windows = encoding.windows.model_dump(mode="json") if encoding.truncation is TruncationPolicy.WINDOW else None
    precision, dim = encoding.precision or Precision.FLOAT32, encoding.output_dim or encoder.dim
    is_whole = (precision, dim) == (Precision.FLOAT32, encoder.dim)
    form = [] if is_whole else [precision.value, dim]
    return hash_json([FORMAT, encoder.fingerprint, document_prompt(encoder, encoding), windows, *form])


def document_prompt(encoder: SentenceEncoder, encoding: EncodingSettings) -> str:
    """Give the text put before each document."""
    return encoder.prompt_for(Side.DOCUMENT) if encoding.prompt is None else encoding.prompt


def encoder_info(spec: EncoderSpec, encoder: SentenceEncoder, encoding: EncodingSettings) -> EncoderInfo:
    """Describe an encoder as the table's readers need it."""
    dim = encoding.output_dim or encoder.dim
    return EncoderInfo(
        model=spec.model,
        fingerprint=encoding_fingerprint(encoder, encoding),
        model_fingerprint=encoder.fingerprint,
        dim=dim,
        model_dim=encoder.dim if dim < encoder.dim else None,
        precision=encoding.precision or Precision.FLOAT32,
        min_recall=MIN_RECALL if encoding.min_recall is None else encoding.min_recall,
        pooling=encoder.pooling_name,
        normalized=encoder.normalizes,
        compute_dtype=str(encoder.compute_dtype.value),
        max_seq_length=encoder.max_seq_length,
        truncation=encoding.truncation.value,
        prompt=document_prompt(encoder, encoding),
    )


def check_same_encoder(job: RefreshJob, table: Table, info: EncoderInfo) -> None:
    """Refuse to change a table's encoder unless a model was named, and to another dim unless ``output_dim`` was set.

    Raises:
        EncoderMismatchError: naming both encoders and the remedy.
    """
    if info.dim != table.encoder.dim and job.settings.encoding.output_dim is None:
        table.check_encoder(info.fingerprint, info.dim)
    if info.fingerprint == table.encoder.fingerprint:
        return
    if job.selection is not None and job.model is not None:
        raise EncoderMismatchError(
            f"{table.uri}: the table's encoder is {table.encoder.model} ({table.encoder.fingerprint[:12]}), the backfill "
            f"names {info.model} ({info.fingerprint[:12]}): a table has one encoder; backfill to a new table, or switch "
            "this one with `sbert refresh --model`"
        )
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


def check_apart(raw_uri: str, table_uri: str) -> None:
    """Refuse a table whose shards the next refresh would read as raw text, raw text inside a table, and names with % # ?.

    Raises:
        SettingsError: naming the places.
    """
    escapes = [character for character in "%#?" if character in table_uri]
    if escapes:
        raise SettingsError(
            f"{table_uri}: the Delta log's client reads {' '.join(escapes)} as part of an address: name a folder without it"
        )
    shard = join(table_uri, "part-0.parquet")
    is_pattern = any(character in raw_uri for character in "*?[")
    below = shard.removeprefix(raw_uri + "/")
    is_below = below != shard and not any(part.startswith((".", "_")) for part in below.split("/"))
    if is_below or (is_pattern and re.match(glob_translate(raw_uri), shard)):
        raise SettingsError(
            f"{table_uri}: the table would lie within the raw text of {raw_uri}, and its shards would be read as raw text "
            "by the next refresh: name a folder outside, or one whose name begins with _"
        )
    if f"{raw_uri}/".startswith(f"{table_uri}/"):
        raise SettingsError(
            f"{raw_uri}: the raw text lies within the table {table_uri}: keep it in a folder of its own"
        )


def make_plan(job: RefreshJob) -> Plan:
    """Compare source and table; nothing is written.

    Raises:
        SettingsError: source and table lie within each other, or a combination that cannot work.
        MissingError, EmptySourceError: nothing to read at ``raw_uri``, or nothing that was chosen.
        ColumnError: a named column is not there.
        NotATableError: ``table_uri`` holds something else.
        EncoderMismatchError: the table's encoder is another one.
    """
    share_heaps()
    table_uri = normalize_uri(job.table_uri)
    check_apart(normalize_uri(job.raw_uri), table_uri)
    settings = job.settings
    table = find_table(table_uri)
    objects = list_objects(job.raw_uri)
    spec = encoder_spec(job, table)
    encoder = load_encoder(spec)
    # Every worker computes in the type that was found best here, whatever it would choose for itself.
    spec = spec.model_copy(update={"compute_dtype": encoder.compute_dtype})
    info = encoder_info(spec, encoder, with_table_form(settings.encoding, table, encoder))
    if table is not None:
        check_same_encoder(job, table, info)
    rows = rows_fingerprint(info.fingerprint, settings)
    shards = locate_splits(table_uri, table.shards()) if table is not None else []
    have = frozenset(fingerprint for shard in shards for fingerprint in shard.fingerprints)
    choice = choose(job, objects, have, rows)
    check_columns(job, table, stays=choice.stays)
    kept_schema = _kept_schema(settings.source, table, objects, is_complete=not choice.missing)
    finished = _completed(job, table, choice.missing, shards) if choice.missing else {}
    completed = {name: record for name, record in finished.items() if record.kept_types == kept_types(kept_schema)}
    build = [planned for planned in choice.missing if planned.fingerprint not in completed]
    numbered = with_first_rows([planned.split for planned in build])
    plan = Plan(
        raw_uri=normalize_uri(job.raw_uri),
        table_uri=table_uri,
        base_version=table.version if table is not None else None,
        encoder=info,
        encoder_spec=spec,
        rows_fingerprint=rows,
        kept_schema=kept_schema,
        num_objects=len(objects),
        num_bytes=sum(item.num_bytes for item in objects),
        shards=shards,
        build=[
            PlannedSplit(split=split, fingerprint=planned.fingerprint)
            for split, planned in zip(numbered, build, strict=True)
        ],
        resume=list(completed.values()),
        retype=[] if job.force else [record for name, record in finished.items() if name not in completed],
        keep=choice.keep,
        gone=choice.gone,
        chosen=choice.chosen,
        force=job.force,
    )
    if job.selection is not None or not plan.gone:
        return plan
    return plan.model_copy(update={"losses": foresee_losses(table_uri, shards, choice, objects)})


def _kept_schema(
    source: SourceSettings, table: Table | None, objects: list[SourceObject], *, is_complete: bool
) -> dict[str, pl.DataType]:
    """Give the types of the kept columns: the table's, whatever the newest object looks like, else those of the source.

    Raises:
        ColumnError: a named column is not there; not looked for when the table is complete.
    """
    of_table = table.kept_schema if table is not None and set(table.kept_schema) == set(source.keep_columns) else None
    of_source = {} if of_table is not None and is_complete else infer_kept_schema(objects, source)
    return {name: (of_source if of_table is None else of_table)[name] for name in source.keep_columns}


def _completed(
    job: RefreshJob, table: Table | None, missing: list[PlannedSplit], shards: list[TableShard]
) -> dict[str, SplitRecord]:
    """Give the records of missing splits that an interrupted run completed.

    A forced run goes on from a forced run only, and only from one that never committed.
    """
    completed = completed_splits(normalize_uri(job.table_uri), [planned.fingerprint for planned in missing])
    if not (job.force and completed) or table is None:
        return completed
    committed = {recorded_in(entry).get("run_id") for entry in table.history()}
    names = {shard.name for shard in shards}
    return {
        fingerprint: record
        for fingerprint, record in completed.items()
        if record.forced and record.run_id not in committed and not names & {shard.name for shard in record.shards}
    }


def is_stale(plan: Plan) -> bool:
    """Tell whether splits that were to be resumed have been removed since the plan was made."""
    fingerprints = [record.fingerprint for record in plan.resume]
    return bool(fingerprints) and len(completed_splits(plan.table_uri, fingerprints)) < len(fingerprints)


def check_columns(job: RefreshJob, table: Table | None, *, stays: bool) -> None:
    """Refuse a backfill that would put rows with other kept columns beside those that stay.

    Raises:
        SettingsError: naming both lists.
    """
    asked = list(job.settings.source.keep_columns)
    if table is None or not stays or job.selection is None or set(asked) == set(table.kept_schema):
        return
    raise SettingsError(
        f"{table.uri}: the table keeps the columns {list(table.kept_schema)}, the backfill asks for {asked}: rows outside "
        "the choice cannot stay beside rows of other columns; give the same keep_columns, or run `sbert refresh`"
    )
