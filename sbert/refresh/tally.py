"""Count the work of a run over all its attempts to commit. Each split counts once."""

from collections import Counter

from sbert.refresh.build_reasons import BuildReason
from sbert.rows.counts import RowCounts
from sbert.table.split_records import SplitRecord

__all__ = ["BuildTally"]


class BuildTally:
    """Adds up the completion records that a run wrote."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._records: dict[str, SplitRecord] = {}
        self._reasons: dict[str, BuildReason] = {}
        self._encoded_before: dict[str, RowCounts] = {}

    def add(self, record: SplitRecord, reason: BuildReason) -> None:
        """Count a split that was built for `reason`.

        A split that is built again replaces its rows. Texts that the encoder computed the first time still count.
        """
        earlier = self._records.get(record.fingerprint)
        if earlier == record:  # found again by a later plan of the run
            return
        if earlier is not None:
            before = self._encoded_before.get(record.fingerprint, RowCounts())
            self._encoded_before[record.fingerprint] = RowCounts(
                num_texts_encoded=before.num_texts_encoded + earlier.counts.num_texts_encoded,
                num_tokens_encoded=before.num_tokens_encoded + earlier.counts.num_tokens_encoded,
            )
        self._records[record.fingerprint] = record
        self._reasons.setdefault(record.fingerprint, reason)

    @property
    def num_splits(self) -> int:
        """Splits that the run built."""
        return len(self._records)

    @property
    def records(self) -> list[SplitRecord]:
        """Completion records of the splits that the run built."""
        return list(self._records.values())

    @property
    def counts(self) -> RowCounts:
        """Row counts of the splits that the run built."""
        return RowCounts.total([*(record.counts for record in self._records.values()), *self._encoded_before.values()])

    @property
    def splits_by_reason(self) -> dict[BuildReason, int]:
        """Number of built splits for each reason, the most frequent reason first."""
        return dict(Counter(self._reasons.values()).most_common())
