"""What a refresh did, in numbers; the keys are a contract with scripts."""

from pydantic import BaseModel, ConfigDict, Field, computed_field

from sbert.refresh.estimate import Estimate
from sbert.refresh.plan import Plan
from sbert.refresh.table_diff import Changes
from sbert.rows.counts import RowCounts
from sbert.table.quantization_recall import Reduction
from sbert.vectors.precision import Precision

__all__ = ["RefreshReport"]


class RefreshReport(BaseModel):
    """The outcome of one refresh; with ``dry_run`` what it would have done."""

    model_config = ConfigDict(frozen=True)

    raw_uri: str
    table_uri: str
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
    num_rows: int | None = Field(default=None, description="Rows in the table now.")
    num_rows_read: int = 0
    num_rows_encoded: int = 0
    num_texts_encoded: int = 0
    num_tokens_encoded: int = 0
    num_rows_carried: int = 0
    num_rows_rejected: int = 0
    num_rows_truncated: int = 0
    rejects_by_reason: dict[str, int] = Field(default_factory=dict)
    num_splits_built: int = 0
    num_splits_resumed: int = Field(default=0, description="Finished by an earlier, interrupted run; published now.")
    num_splits_kept: int = 0
    num_splits_dropped: int = 0
    num_objects_lost: int = Field(default=0, description="Objects of the table that are no longer in the source.")
    num_rows_lost: int = Field(default=0, description="Rows of those objects.")
    broken_objects: dict[str, str] = Field(default_factory=dict, description="Objects that could not be read, and why.")
    estimate: Estimate | None = Field(default=None, description="What the plan was estimated to take.")
    num_bytes_read: int = Field(default=0, description="Bytes of the splits that were built.")
    stage_seconds: dict[str, float] = Field(default_factory=dict, description="Time by stage, as it was (seconds).")
    seconds: float = 0.0
    run_url: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def complete(self) -> bool:
        """Whether everything asked for was done."""
        return not self.broken_objects

    @classmethod
    def of_plan(cls, plan: Plan) -> "RefreshReport":
        """Report what a plan would do."""
        return cls(
            raw_uri=plan.raw_uri,
            table_uri=plan.table_uri,
            version=plan.base_version,
            encoder=plan.encoder.model,
            encoder_fingerprint=plan.encoder.fingerprint,
            dim=plan.encoder.dim,
            precision=plan.encoder.precision,
            num_objects=plan.num_objects,
            dry_run=True,
            num_splits_built=len(plan.build),
            num_splits_resumed=len(plan.resume),
            num_splits_kept=len(plan.keep),
            num_splits_dropped=plan.num_splits_dropped,
            num_objects_lost=plan.losses.num_objects_lost,
            num_rows_lost=plan.losses.num_rows_lost,
        )

    @classmethod
    def of_run(
        cls,
        plan: Plan,
        changes: Changes,
        counts: RowCounts,
        *,
        run_id: str,
        version: int,
        num_rows: int,
        reduction: Reduction | None = None,
    ) -> "RefreshReport":
        """Report what a run did."""
        num_built = sum(record.run_id == run_id for record in changes.add)
        return cls.of_plan(plan).model_copy(
            update={
                **counts.model_dump(),
                "dry_run": False,
                "version": version,
                "num_rows": num_rows,
                "num_splits_built": num_built,
                "num_splits_resumed": len(changes.add) - num_built,
                "num_splits_kept": len(plan.keep) + changes.num_stayed,
                "num_splits_dropped": len(changes.gone),
                "broken_objects": changes.broken,
                "recall_at_10": reduction.recall_at_10 if reduction is not None else None,
                "recall_note": reduction.describe() if reduction is not None else "",
            }
        )

    def estimate_and_truth(self) -> list[tuple[str, float | None, float]]:
        """Give name, estimate and truth of each figure: in a dry run all (None: not known yet), then those known before."""
        if self.estimate is None or not (self.num_splits_built if self.dry_run else self.num_bytes_read):
            return []
        stages = ("plan", "build", "publish") if self.dry_run else ("build", "publish")
        figures = [
            ("MiB to read", self.estimate.num_bytes / 2**20, self.num_bytes_read / 2**20),
            ("rows to read", self.estimate.num_rows, self.num_rows_read),
            ("tokens to encode, at most", self.estimate.num_tokens, self.num_tokens_encoded),
            *(
                (f"seconds to {stage}", self.estimate.seconds.get(stage), self.stage_seconds.get(stage, 0.0))
                for stage in stages
            ),
        ]
        return figures if self.dry_run else [figure for figure in figures if figure[1] is not None]
