"""The plan of a refresh: a set difference between the splits of the source and the shards of the table.

A split's fingerprint hashes everything that decides its rows (objects and their versions, which columns
are read, cleaning, encoder), and its shards carry the fingerprint in their names. So a run builds ``wanted - have`` and
drops ``have - wanted``, and nothing else is remembered between runs.
"""

import logging
import re
from collections.abc import Sequence

import polars as pl
from fsspec.utils import glob_translate
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.describe import describe_model
from sbert.encoder.side import Side
from sbert.errors import SettingsError
from sbert.refresh.build_reasons import BuildReason, ReasonFinder
from sbert.refresh.build_result import BuildResult
from sbert.refresh.build_spec import BuildSpec
from sbert.refresh.deletion_limit import Losses, foresee_losses
from sbert.refresh.encoder_choice import check_same_encoder, describe_encoder, encoder_spec
from sbert.refresh.erased_rows import without_erased_records
from sbert.refresh.fingerprints import PlannedSplit, rows_fingerprint
from sbert.refresh.job import RefreshJob
from sbert.refresh.passages import passage_columns, passage_limit, with_document_passages, without_stray_documents
from sbert.refresh.planned_counts import PlannedCounts, foresee
from sbert.refresh.split_selection import Scope, SplitSelection, scope_of, select_splits
from sbert.refresh.stages import OnStage, Stage, ignore_stage
from sbert.refresh.table_settings import SettingChange, check_backfill_changes, encoder_changes, resolve_job
from sbert.runtime.memory import cycle_searches, share_heaps
from sbert.source.formats.all_formats import format_of
from sbert.source.listing import list_objects
from sbert.source.look_at_objects import look_at_objects
from sbert.source.objects import SourceObject
from sbert.source.passages.cutter import PASSAGE_COLUMNS
from sbert.source.plain_text_columns import check_columns_of_plain_text
from sbert.source.schema import infer_kept_schema
from sbert.source.splits import with_first_rows
from sbert.storage.files import join
from sbert.table.commit_record import recorded_in
from sbert.table.delta import Table, find_table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shard_layout import locate_splits, mark_lost_shards
from sbert.table.split_records import SplitRecord, completed_splits, find_record, kept_types
from sbert.table.table_shard import TableShard
from sbert.table.tombstones import Tombstones

__all__ = ["Plan", "is_stale", "make_plan", "with_row_numbers"]

log = logging.getLogger(__name__)


class BaseVersion(BaseModel):
    """The version of the table that a plan starts from."""

    model_config = ConfigDict(frozen=True)

    version: int | None = Field(default=None, description="Number of the version; empty for a new table.")
    shards: list[TableShard] = Field(default_factory=list, description="Shards of the version.")

    @classmethod
    def of(cls, table: Table | None) -> "BaseVersion":
        """Read a table's shards; of a new table there are none."""
        if table is None:
            return cls()
        return cls(version=table.version, shards=locate_splits(table.uri, mark_lost_shards(table.uri, table.shards())))

    @property
    def has_lost_shards(self) -> bool:
        """Return whether a shard is gone or torn."""
        return any(shard.is_lost for shard in self.shards)

    @property
    def splits(self) -> frozenset[str]:
        """Return the splits of the version, by fingerprint."""
        return frozenset(fingerprint for shard in self.shards for fingerprint in shard.fingerprints)


class Plan(BaseModel):
    """The work of a refresh, and the version of the table that it starts from."""

    model_config = ConfigDict(frozen=True)

    spec: BuildSpec
    base: BaseVersion = Field(description="The version of the table that the plan starts from.")
    scope: Scope = Field(description="Objects whose rows may change; all others keep their rows.")
    build: list[PlannedSplit] = Field(description="Splits to build: neither in the table nor completed before.")
    reasons: dict[str, BuildReason] = Field(description="Reason for building or resuming each split, by fingerprint.")
    resume: list[BuildResult] = Field(description="Splits that an earlier, interrupted run completed.")
    retype: list[SplitRecord] = Field(
        description="Splits that it completed with other types of kept columns: built again, from the vectors they have."
    )
    keep: list[PlannedSplit] = Field(description="Splits whose rows the table has.")
    leaving: frozenset[str] = Field(description="Splits that leave the table, by fingerprint.")
    losses: Losses = Field(description="Rows, objects and columns that disappear.")
    changes: tuple[SettingChange, ...] = Field(default=(), description="Changes of the run to the table itself.")
    has_rows: frozenset[str] = Field(
        default=frozenset(), description="Objects to build that may break off, and of which the table has rows, by URI."
    )
    formats: dict[str, int] = Field(
        default={},
        description="Ways in which objects to read are written, told by looking at some, and the number of each.",
    )
    unreadable: dict[str, str] = Field(
        default={}, description="Objects to read that looking at some showed to be unreadable, and why, by URI."
    )
    outlook: PlannedCounts = Field(description="Splits that a run will build, keep, copy and drop.")

    @property
    def job(self) -> RefreshJob:
        """The job, completed by the settings of the table."""
        return self.spec.job

    @property
    def raw_uri(self) -> str:
        """File, folder or glob of the raw text."""
        return self.spec.job.raw_uri

    @property
    def table_uri(self) -> str:
        """Folder of the table."""
        return self.spec.job.table_uri

    @property
    def encoder(self) -> EncoderInfo:
        """The encoder that makes the table's vectors."""
        return self.spec.encoder

    @property
    def resumed_records(self) -> list[SplitRecord]:
        """Completion records of the splits that an earlier run completed."""
        return [result.record for result in self.resume if result.record is not None]

    @property
    def is_empty(self) -> bool:
        """Return whether the table already shows the source."""
        is_new = self.base.version is None
        return not (self.build or self.resume or self.leaving or self.base.has_lost_shards or is_new)

    def open_base(self) -> Table | None:
        """Open the version that the plan starts from; None for a new table."""
        return Table.open(self.table_uri, self.base.version) if self.base.version is not None else None

    @property
    def num_bytes_to_read(self) -> int:
        """Raw bytes of the splits to build."""
        return sum(planned.split.num_bytes for planned in self.build)

    @property
    def splits_by_reason(self) -> dict[BuildReason, int]:
        """Return the number of splits that a run will build for each reason, the most frequent first."""
        return self.outlook.splits_by_reason


@cycle_searches.pause()
def make_plan(job: RefreshJob, on_stage: OnStage = ignore_stage) -> Plan:
    """Compare source and table; nothing is written. Everything that is cheap is checked before the encoder is loaded.

    Raises:
        SettingsError: source and table lie within each other, or a combination that cannot work.
        MissingError, EmptySourceError: nothing to read at ``raw_uri``, or nothing that was chosen.
        ColumnError: a named column is not there.
        NotATableError: ``table_uri`` holds something else.
        EncoderMismatchError: the table's encoder is another one.
    """
    share_heaps()
    on_stage(Stage.LISTING)
    check_apart(job.raw_uri, job.table_uri)
    table = find_table(job.table_uri)
    resolved = resolve_job(job, table)
    job = resolved.job
    objects = list_objects(job.raw_uri, job.settings.source.format)
    objects = without_stray_documents(job, objects)
    changed = {change.name for change in resolved.changes}
    is_new = table is None or bool(changed & {"source.text_column", "source.id_column"})
    check_columns_of_plain_text(job.raw_uri, objects, job.settings.source, is_new=is_new)
    _warn_of_emptiness(job.raw_uri, objects)
    job, passage_changes = with_document_passages(job, objects, is_new=table is None)
    scope = scope_of(job, objects)
    kept_schema = _kept_schema(job, table, objects)
    on_stage(Stage.CHECKING_ENCODER)
    spec = _build_spec(job, table, kept_schema)
    on_stage(Stage.COMPARING)
    base = BaseVersion.of(table)
    selection = select_splits(job, objects, scope, base.splits, spec.rows_fingerprint)
    changes = (*resolved.changes, *passage_changes, *encoder_changes(table, spec.encoder))
    if selection.keeps_other_rows:
        check_backfill_changes(job, changes)
    completed = _completed(job, table, selection.missing, base.shards)
    resume = [
        BuildResult(planned=planned, built=planned, record=record)
        for planned in selection.missing
        if (record := completed.get(planned.fingerprint)) is not None and record.kept_types == kept_types(kept_schema)
    ]
    resumed = {result.planned.fingerprint for result in resume}
    build = with_row_numbers([planned for planned in selection.missing if planned.fingerprint not in resumed])
    looks = look_at_objects([span.object for planned in build for span in planned.split.spans], job.settings.source)
    reasons = _reasons(spec, table, selection, base)
    return Plan(
        spec=spec,
        base=base,
        scope=selection.scope,
        build=build,
        reasons=reasons,
        resume=resume,
        retype=[] if job.force else [record for name, record in completed.items() if name not in resumed],
        keep=selection.keep,
        leaving=selection.leaving,
        losses=_losses(job, base.shards, selection, objects).model_copy(update={"columns_lost": resolved.columns_lost}),
        changes=changes,
        has_rows=_may_break_off(build) & {span.uri for record in selection.records.values() for span in record.spans},
        formats=looks.formats,
        unreadable=looks.unreadable,
        outlook=foresee(
            selection,
            build,
            reasons=reasons,
            unreadable=looks.unreadable,
            objects=objects,
            have=base.splits - selection.leaving if job.force else base.splits,
            rows=spec.rows_fingerprint,
        ),
    )


def _warn_of_emptiness(raw_uri: str, objects: Sequence[SourceObject]) -> None:
    """Warn when no object holds a byte."""
    if all(not item.num_bytes and not item.unreadable for item in objects):
        log.warning(
            "%s: all %d objects are empty, such as %s: there are no rows to read; check the program that wrote them",
            raw_uri,
            len(objects),
            objects[0].uri,
        )


def _build_spec(job: RefreshJob, table: Table | None, kept_schema: dict[str, pl.DataType]) -> BuildSpec:
    """Agree how every split is built; the encoder is loaded only if it was never loaded on this machine."""
    loading = encoder_spec(job, table)
    encoder = describe_model(loading)
    # Every worker computes in the type that was found best here, whatever it would choose for itself.
    loading = loading.model_copy(update={"compute_dtype": encoder.compute_dtype})
    info = describe_encoder(loading, encoder, job.settings.encoding, table)
    if table is not None:
        check_same_encoder(job, table, info)
    if job.settings.source.passages is not None:
        passage_limit(job.settings.source.passages, job.settings.encoding, encoder.max_seq_length)
    return BuildSpec(
        job=job,
        encoder_spec=loading,
        encoder=info,
        rows_fingerprint=rows_fingerprint(info.fingerprint, job.settings),
        kept_schema=kept_schema,
        model_prompt=encoder.prompt_for(Side.DOCUMENT),
    )


def _kept_schema(job: RefreshJob, table: Table | None, objects: Sequence[SourceObject]) -> dict[str, pl.DataType]:
    """Return the types of the kept columns: the table's, whatever the newest object looks like, else the source's.

    Raises:
        ColumnError: a named column is not there.
        SettingsError: a kept column has the name of a column of passages.
    """
    source = job.settings.source
    names, made = source.keep_columns, {}
    if source.cuts_passages:
        names, made = passage_columns(names), PASSAGE_COLUMNS
    types = infer_kept_schema(objects, source.model_copy(update={"keep_columns": names})) | made
    names = (*names, *made)
    if table is not None and set(table.kept_schema) == set(names):
        fixed = job.settings.source.column_types
        types = {name: types[name] if name in fixed else kind for name, kind in table.kept_schema.items()}
    return {name: types[name] for name in names}


def _completed(
    job: RefreshJob, table: Table | None, missing: Sequence[PlannedSplit], shards: Sequence[TableShard]
) -> dict[str, SplitRecord]:
    """Return the records of missing splits that an interrupted run completed, by fingerprint.

    A forced run resumes a forced run only, and only one that never committed.
    """
    if not missing:
        return {}
    completed = completed_splits(job.table_uri, [planned.fingerprint for planned in missing])
    if completed:
        completed = without_erased_records(job.table_uri, completed, Tombstones.load(job.table_uri))
    if not (job.force and completed) or table is None:
        return completed
    committed = {recorded_in(entry).get("run_id") for entry in table.history()}
    names = {shard.name for shard in shards}
    return {
        fingerprint: record
        for fingerprint, record in completed.items()
        if record.forced and record.run_id not in committed and not names & {shard.name for shard in record.shards}
    }


def _may_break_off(build: Sequence[PlannedSplit]) -> set[str]:
    """Return the URIs of the objects to build whose format gives whole rows even if the object breaks off after them."""
    objects = (span.object for planned in build for span in planned.split.spans)
    return {item.uri for item in objects if format_of(item.format).may_break_off}


def with_row_numbers(build: Sequence[PlannedSplit]) -> list[PlannedSplit]:
    """Number the first row of each slice within its object."""
    numbered = with_first_rows([planned.split for planned in build])
    return [planned.model_copy(update={"split": split}) for split, planned in zip(numbered, build, strict=True)]


def _reasons(
    spec: BuildSpec, table: Table | None, selection: SplitSelection, base: BaseVersion
) -> dict[str, BuildReason]:
    """Return why each missing split is built."""
    wanted = [planned.fingerprint for planned in selection.missing]
    # A wanted split that was finished once, and that the table does not show, lies in a shard that is gone or torn.
    lost = [name for name in wanted if find_record(spec.table_uri, name) is not None] if base.has_lost_shards else []
    finder = ReasonFinder(
        selection.records.values(),
        rows_fingerprint=spec.rows_fingerprint,
        encoder_fingerprint=spec.encoder.fingerprint,
        keeps_same_columns=table is None or set(table.kept_schema) == set(spec.kept_schema),
        is_forced=spec.job.force,
        has_lost_records=len(selection.records) < len(selection.leaving),
        lost_splits=lost,
    )
    return {planned.fingerprint: finder.reason_for(planned) for planned in selection.missing}


def _losses(
    job: RefreshJob, shards: Sequence[TableShard], selection: SplitSelection, objects: Sequence[SourceObject]
) -> Losses:
    """Return the rows, objects and columns that a refresh removes; a backfill removes none."""
    if job.selection is not None or not selection.leaving:
        return Losses()
    return foresee_losses(job.table_uri, shards, selection, objects)


def is_stale(plan: Plan) -> bool:
    """Return whether splits that were to be resumed have been removed since the plan was made."""
    fingerprints = [result.planned.fingerprint for result in plan.resume]
    return bool(fingerprints) and len(completed_splits(plan.table_uri, fingerprints)) < len(fingerprints)


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
            f"{table_uri}: the table would lie within the raw text of {raw_uri}, and the next refresh would read its shards "
            "as raw text: name a folder outside, or a folder whose name begins with _"
        )
    if f"{raw_uri}/".startswith(f"{table_uri}/"):
        raise SettingsError(
            f"{raw_uri}: the raw text lies within the table {table_uri}: keep it in a folder of its own"
        )
