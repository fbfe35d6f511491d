"""The result of a refresh in numbers. Scripts rely on its keys."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from sbert.counted import counted
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.build_reasons import BuildReason
from sbert.refresh.estimate import Estimate
from sbert.refresh.plan import Plan
from sbert.refresh.stage_seconds import StageSeconds
from sbert.refresh.table_diff import TableDiff
from sbert.refresh.table_settings import SettingChange
from sbert.refresh.tally import BuildTally
from sbert.table.delta import Table
from sbert.table.quantization_recall import Reduction
from sbert.vectors.precision import Precision

__all__ = ["Figure", "RefreshReport"]


class Figure(NamedTuple):
    """A number that was estimated before the run, beside the number that it turned out to be."""

    name: str
    expected: float | None
    """None when no earlier run measured any."""
    actual: float
    decimals: int = 0
    """Decimal places that a person is shown."""

    @property
    def shown_expected(self) -> str:
        """The estimate, for a person."""
        return "not known yet" if self.expected is None else f"{self.expected:,.{self.decimals}f}"

    @property
    def shown_actual(self) -> str:
        """The actual number, for a person."""
        return f"{self.actual:,.{self.decimals}f}"


class RefreshReport(BaseModel):
    """The outcome of one refresh; with ``dry_run`` the plan of it."""

    model_config = ConfigDict(frozen=True)

    operation: str = Field(default="refresh", description="refresh or backfill.")
    raw_uri: str
    table_uri: str
    selection: Selection | None = Field(
        default=None, description="Objects and rows that a backfill chose; empty for a refresh."
    )
    force: bool = Field(default=False, description="Whether every vector was computed anew.")
    version: int | None = Field(description="The table's version now; empty when there is no table yet.")
    encoder: str = Field(description="Model that makes the table's vectors.")
    encoder_fingerprint: str
    dim: int
    precision: Precision = Precision.FLOAT32
    recall_at_10: float | None = Field(
        default=None, description="Of smaller vectors against float32, among the run's own rows (0 to 1)."
    )
    recall_note: str = Field(default="", description="The same in words; empty for whole float32 vectors.")
    dry_run: bool = False
    num_objects: int = Field(description="Objects in the source.")
    num_objects_chosen: int = Field(default=0, description="Objects that the job works on: for a refresh all of them.")
    num_rows: int | None = Field(default=None, description="Rows in the table now.")
    num_rows_read: int = 0
    num_rows_encoded: int = 0
    num_texts_encoded: int = 0
    num_tokens_encoded: int = 0
    num_rows_carried: int = 0
    num_rows_rejected: int = 0
    num_rows_truncated: int = 0
    num_documents_read: int = Field(default=0, description="Documents read, where documents are cut into passages.")
    num_documents_written: int = Field(default=0, description="Those with at least one passage in the table.")
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    all_rejected: str = Field(
        default="", description="Likely cause and remedy where every row that was read was rejected; else empty."
    )
    misfits_by_column: dict[str, int] = Field(
        default_factory=dict, description="Rows whose value does not fit a kept column and is null there."
    )
    num_splits_built: int = Field(default=0, description="Splits that this run built, each counted once.")
    num_splits_resumed: int = Field(default=0, description="Finished by an earlier, interrupted run; published now.")
    num_splits_kept: int = Field(default=0, description="Splits whose rows the table had already.")
    num_splits_copied: int = Field(
        default=0, description="Splits taken apart: rows that stay were copied, not computed."
    )
    num_splits_dropped: int = Field(default=0, description="Splits that left the table.")
    splits_by_reason: dict[BuildReason, int] = Field(
        default_factory=dict, description="Number of splits that were built, for each reason."
    )
    num_objects_lost: int = Field(default=0, description="Objects of the table that are no longer in the source.")
    num_rows_lost: int = Field(default=0, description="Rows of those objects.")
    columns_lost: tuple[str, ...] = Field(default=(), description="Kept columns that the table loses.")
    changes: tuple[SettingChange, ...] = Field(default=(), description="Changes of the run to the table itself.")
    formats: dict[str, int] = Field(
        default_factory=dict, description="How objects that were read are written, as told by looking at some of them."
    )
    broken_objects: dict[str, str] = Field(
        default_factory=dict,
        description="Objects that could not be read, and why; in a plan those that looking at some showed.",
    )
    estimate: Estimate | None = Field(default=None, description="Estimate of the work that the plan takes.")
    num_bytes_read: int = Field(default=0, description="Bytes of the splits that were built.")
    stage_seconds: StageSeconds = Field(default=StageSeconds(), description="Time by stage, as it was (seconds).")
    seconds: float = 0.0
    run_url: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def complete(self) -> bool:
        """Return whether everything asked for was done."""
        return not self.broken_objects and (self.dry_run or self.version is not None)

    @property
    def texts_per_second(self) -> float | None:
        """Distinct texts encoded a second of building; None when none was encoded."""
        return self._per_second(self.num_texts_encoded)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens encoded a second of building; None when none was encoded."""
        return self._per_second(self.num_tokens_encoded)

    def _per_second(self, number: int) -> float | None:
        return number / self.stage_seconds.build if number and self.stage_seconds.build > 0 else None

    @classmethod
    def of_plan(cls, plan: Plan) -> "RefreshReport":
        """Report a plan."""
        return cls(
            operation=plan.job.operation,
            raw_uri=plan.raw_uri,
            table_uri=plan.table_uri,
            selection=plan.job.selection,
            force=plan.job.force,
            version=plan.base.version,
            encoder=plan.encoder.model,
            encoder_fingerprint=plan.encoder.fingerprint,
            dim=plan.encoder.dim,
            precision=plan.encoder.precision,
            num_objects=plan.scope.num_objects,
            num_objects_chosen=plan.scope.num_chosen,
            dry_run=True,
            num_splits_built=plan.outlook.num_built,
            num_splits_resumed=len(plan.resume),
            num_splits_kept=plan.outlook.num_kept,
            num_splits_copied=plan.outlook.num_copied,
            num_splits_dropped=plan.outlook.num_dropped,
            splits_by_reason=plan.outlook.splits_by_reason,
            num_objects_lost=plan.losses.num_objects_lost,
            num_rows_lost=plan.losses.num_rows_lost,
            columns_lost=plan.losses.columns_lost,
            changes=plan.changes,
            formats=plan.formats,
            broken_objects=plan.unreadable,
        )

    @classmethod
    def of_run(
        cls,
        plan: Plan,
        diff: TableDiff,
        built: BuildTally,
        *,
        table: Table | None = None,
        reduction: Reduction | None = None,
    ) -> "RefreshReport":
        """Report a run.

        Args:
            plan: the plan that was published.
            diff: what joined and left the table.
            built: the splits that the run built, over all its attempts to commit.
            table: the version that the run left; None when there is none, because it published nothing.
            reduction: what the run found out about smaller vectors.
        """
        return cls.of_plan(plan).model_copy(
            update={
                **built.counts.model_dump(),
                "dry_run": False,
                "version": table.version if table is not None else None,
                "num_rows": table.num_rows if table is not None else 0,
                "num_splits_built": built.num_splits,
                "num_splits_resumed": len(diff.resumed),
                "num_splits_kept": len(plan.keep) + diff.num_splits_stayed,
                "num_splits_copied": len(diff.copied),
                "num_splits_dropped": len(diff.leaving),
                "splits_by_reason": built.splits_by_reason,
                "broken_objects": diff.broken,
                "recall_at_10": reduction.recall_at_10 if reduction is not None else None,
                "recall_note": reduction.describe() if reduction is not None else "",
            }
        )

    def summary(self) -> str:
        """Return the outcome in one line."""
        if self.dry_run:
            return (
                f"Planned only: {counted(self.num_splits_built, 'split')} to build, {self.num_splits_resumed:,} to resume, "
                f"{self.num_splits_kept:,} to keep, {self.num_splits_dropped:,} to drop"
            )
        version = "No version" if self.version is None else f"Version {self.version}"
        return (
            f"{version}: {counted(self.num_rows or 0, 'row')}, {self.num_rows_encoded:,} encoded, "
            f"{self.num_rows_carried:,} carried over, {self.num_rows_rejected:,} rejected"
            f"{f': {self.all_rejected}' if self.all_rejected else ''}"
        )

    def estimate_and_actual(self) -> list[Figure]:
        """Return estimates beside measured values: all figures of a dry run, after a run the figures estimated before."""
        if self.estimate is None or not (self.num_splits_built if self.dry_run else self.num_bytes_read):
            return []
        estimate, actual = self.estimate, self.stage_seconds
        figures = [
            Figure("MiB to read", estimate.num_bytes / 2**20, self.num_bytes_read / 2**20, 2),
            Figure("rows to read", estimate.num_rows, self.num_rows_read),
            Figure("tokens to encode, at most", estimate.num_tokens, self.num_tokens_encoded),
            Figure("seconds to build", estimate.seconds.get("build"), actual.build, 2),
            Figure("seconds to publish", estimate.seconds.get("publish"), actual.publish, 2),
        ]
        if self.dry_run:
            return [*figures[:3], Figure("seconds to plan", estimate.seconds.get("plan"), actual.plan, 2), *figures[3:]]
        return [figure for figure in figures if figure.expected is not None]
