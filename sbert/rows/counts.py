"""Row counts that must add up: rows read equal rows encoded, carried over and rejected."""

from collections import Counter
from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import AccountingError

__all__ = ["RowCounts"]


class RowCounts(BaseModel):
    """Counts of the rows of one split or one run, by outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rows_read: int = Field(default=0, description="Rows read from the source.")
    num_rows_encoded: int = Field(default=0, description="Rows whose vector was computed in this run.")
    num_texts_encoded: int = Field(default=0, description="Distinct texts that went through the encoder.")
    num_tokens_encoded: int = Field(default=0, description="Tokens that went through the encoder, after truncation.")
    num_rows_carried: int = Field(default=0, description="Rows whose vector was already there.")
    num_rows_rejected: int = Field(default=0, description="Rows kept out of the table, each with a reason.")
    num_rows_truncated: int = Field(default=0, description="Rows in the table that lost tokens to max_seq_length.")
    num_documents_read: int = Field(default=0, description="Documents read, where documents are cut into passages.")
    num_documents_written: int = Field(default=0, description="Documents with at least one passage in the table.")
    rejects_by_reason: dict[str, int] = Field(default_factory=dict, description="Rejected rows for each reason.")
    misfits_by_column: dict[str, int] = Field(
        default_factory=dict,
        description="Rows in the table whose value does not fit a kept column and is null there, for each column.",
    )

    @property
    def num_rows_written(self) -> int:
        """Rows that are in the table's shards: encoded plus carried over."""
        return self.num_rows_encoded + self.num_rows_carried

    def check(self, what: str) -> Self:
        """Return the counts if they add up.

        Raises:
            AccountingError: when a row is unaccounted for; `what` names the split or run.
        """
        accounted = self.num_rows_encoded + self.num_rows_carried + self.num_rows_rejected
        if accounted != self.num_rows_read:
            raise AccountingError(
                f"{what}: {self.num_rows_read} rows were read but {accounted} are accounted for "
                f"({self.num_rows_encoded} encoded, {self.num_rows_carried} carried over, "
                f"{self.num_rows_rejected} rejected): nothing was published; please report this with the source object"
            )
        by_reason = sum(self.rejects_by_reason.values())
        if by_reason != self.num_rows_rejected:
            raise AccountingError(
                f"{what}: {self.num_rows_rejected} rows were rejected but {by_reason} have a reason: nothing was published; "
                "please report this with the source object"
            )
        if self.num_documents_written > self.num_documents_read:
            raise AccountingError(
                f"{what}: passages of {self.num_documents_written} documents were written, but {self.num_documents_read} "
                "documents were read: nothing was published; please report this with the source object"
            )
        return self

    @classmethod
    def total(cls, parts: Iterable["RowCounts"]) -> "RowCounts":
        """Add counts up."""
        sums: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        misfits: Counter[str] = Counter()
        for part in parts:
            values = part.model_dump()
            reasons.update(values.pop("rejects_by_reason"))
            misfits.update(values.pop("misfits_by_column"))
            sums.update(values)
        return cls(
            **sums,
            rejects_by_reason=dict(sorted(reasons.items())),
            misfits_by_column=dict(sorted(misfits.items())),
        )
