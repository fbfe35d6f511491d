"""A shard of a version of a table, and the places of splits in it."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.table.shards import ShardRecord

__all__ = ["SplitRows", "TableShard"]


class SplitRows(BaseModel):
    """The place of one split's rows in a shard."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    first_row: int
    num_rows: int


class TableShard(BaseModel):
    """One shard of a version of the table."""

    model_config = ConfigDict(frozen=True)

    name: str
    fingerprint: str
    num_rows: int
    num_bytes: int
    splits: tuple[SplitRows, ...] = Field(
        default=(), description="Splits whose rows it holds; of a compacted shard known after reading its footer."
    )
    has_bounds: bool = Field(
        default=False,
        description="Whether the log has bounds of some columns, as earlier versions wrote them; filters go wrong by them.",
    )
    is_lost: bool = Field(default=False, description="Whether the file is gone or torn; its rows must be built again.")

    @property
    def fingerprints(self) -> frozenset[str]:
        """The splits whose rows it holds."""
        return frozenset(rows.fingerprint for rows in self.splits)

    def record(self) -> ShardRecord:
        """Return the record by which the log can add the shard again."""
        return ShardRecord(name=self.name, num_rows=self.num_rows, num_bytes=self.num_bytes)
