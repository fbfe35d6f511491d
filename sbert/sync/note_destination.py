"""Note the version of a destination beside the table, for `sbert inspect` and reports."""

from sbert.sync.destinations.base import Destination
from sbert.sync.watermark import Watermark
from sbert.table.followers import Follower, note_follower

__all__ = ["note_destination"]


def note_destination(
    table_uri: str, destination: Destination, mark: Watermark, *, num_rows: int, is_equal: bool | None
) -> None:
    """Note the version that readers of a destination see, and the newest proof.

    Args:
        table_uri: the table.
        destination: the destination.
        mark: the watermark of the collection that readers see.
        num_rows: rows of that collection.
        is_equal: what the newest comparison found; None when there was none of this version.
    """
    note_follower(
        table_uri,
        Follower(
            name=str(destination),
            kind=destination.scheme,
            version=mark.version,
            num_rows=num_rows,
            followed_at=mark.synced_at,
            proven_version=mark.proven_version,
            proven_at=mark.proven_at,
            is_equal=is_equal,
        ),
    )
