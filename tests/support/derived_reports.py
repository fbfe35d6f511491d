"""Facts of a run of a derived table, by name."""

from sbert.derived.run import DerivedReport

__all__ = ["shard_counts"]


def shard_counts(report: DerivedReport) -> dict[str, int]:
    """Return how many shards the run built, kept, dropped and took up from an earlier attempt."""
    return {
        "built": report.num_shards_built, "kept": report.num_shards_kept, "dropped": report.num_shards_dropped,
        "resumed": report.num_shards_resumed,
    }  # fmt: skip
