"""Reasons why a split is built: the difference between the source and the rows that the table has."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from sbert.refresh.fingerprints import PlannedSplit, recorded_fingerprint
from sbert.table.split_records import SplitRecord

__all__ = ["BuildReason", "ReasonFinder"]


class BuildReason(StrEnum):
    """The first difference, in this order, between a split and the earlier rows of its objects."""

    FORCED = "forced"
    """The caller asked for every vector to be computed anew."""
    LOST_SHARD = "lost shard"
    """A shard with rows of the split is gone or torn."""
    NEW_OBJECT = "new object"
    """The table has no rows of the split's objects."""
    ENCODER = "other encoder"
    """Another encoder, or an encoding setting that changes vectors."""
    COLUMNS = "other columns"
    """Other source columns are kept."""
    SETTINGS = "other settings"
    """Other cleaning, another text or id column."""
    CHANGED_OBJECT = "changed object"
    """An object has another version."""
    REGROUPED = "regrouped"
    """The same objects are packed or cut into slices in another way: a neighbour left or changed, or packs are joined."""
    LOST_RECORD = "lost record"
    """The completion record of earlier rows is gone, so that what changed cannot be told."""


class ReasonFinder:
    """Tells why each split is built, from the records of the splits that leave the table."""

    def __init__(
        self,
        records: Iterable[SplitRecord],
        *,
        rows_fingerprint: str,
        encoder_fingerprint: str,
        keeps_same_columns: bool,
        is_forced: bool,
        has_lost_records: bool,
        lost_splits: Collection[str] = (),
    ) -> None:
        """Index the objects of `records`.

        Args:
            records: of the splits that the table has and that leave it.
            rows_fingerprint: hash of everything but the objects that decides the rows of this run.
            encoder_fingerprint: of this run.
            keeps_same_columns: whether the table keeps the columns that this run keeps.
            is_forced: whether the caller asked for every vector anew.
            has_lost_records: whether records of some splits are gone.
            lost_splits: splits whose shards are gone or torn, by fingerprint.
        """
        self._record_of: Mapping[str, SplitRecord] = {span.uri: record for record in records for span in record.spans}
        self._rows_fingerprint = rows_fingerprint
        self._encoder_fingerprint = encoder_fingerprint
        self._keeps_same_columns = keeps_same_columns
        self._is_forced = is_forced
        self._has_lost_records = has_lost_records
        self._lost_splits = frozenset(lost_splits)

    def reason_for(self, planned: PlannedSplit) -> BuildReason:
        """Return why a split that the table does not have is built."""
        if self._is_forced:
            return BuildReason.FORCED
        if planned.fingerprint in self._lost_splits:
            return BuildReason.LOST_SHARD
        earlier = {uri: self._record_of[uri] for uri in planned.object_uris if uri in self._record_of}
        if not earlier:
            return BuildReason.LOST_RECORD if self._has_lost_records else BuildReason.NEW_OBJECT
        return self._difference(planned, earlier)

    def _difference(self, planned: PlannedSplit, earlier: Mapping[str, SplitRecord]) -> BuildReason:
        """Return the difference between a split and the earlier rows of its objects."""
        versions = {span.object.uri: span.object.version for span in planned.split.spans}
        record = next(iter(earlier.values()))
        if record.encoder_fingerprint != self._encoder_fingerprint:
            return BuildReason.ENCODER
        if record.fingerprint != recorded_fingerprint(record.spans, self._rows_fingerprint):
            return BuildReason.SETTINGS if self._keeps_same_columns else BuildReason.COLUMNS
        earlier_versions = {span.uri: span.version for one in earlier.values() for span in one.spans}
        if any(earlier_versions[uri] != versions[uri] for uri in earlier):
            return BuildReason.CHANGED_OBJECT
        return BuildReason.NEW_OBJECT if len(earlier) < len(versions) else BuildReason.REGROUPED
