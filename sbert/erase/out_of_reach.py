"""Places that an erasure cannot reach. Every receipt names them. Storage is asked whether they exist, where it can tell."""

from sbert.erase.receipt import OutOfReach, PlaceReport
from sbert.storage.files import filesystem, strip_protocol

__all__ = ["OUT_OF_REACH", "bucket_problem"]

OUT_OF_REACH = (
    OutOfReach(
        place="raw text",
        advice="it is never changed: remove the rows from the objects too; while they are there, each refresh rejects them",
    ),
    OutOfReach(
        place="backups and snapshots",
        advice="of the table, the raw text and the stores: let them expire, or restore without",
    ),
    OutOfReach(place="copies of the table's folder", advice="erase in each of them; its owner has to know of it"),
    OutOfReach(
        place="readers' copies",
        advice="files of `sbert changes` and `sbert suggest`, copies of readers and searches, answers that were given: tell "
        "their owners",
    ),
    OutOfReach(
        place="vectors in the caches of other machines",
        advice="remove `sbert-prefect/vectors` below `$XDG_CACHE_HOME` (by default `~/.cache`) on machines that ran jobs; "
        "this machine's are removed",
    ),
    OutOfReach(place="free space of disks", advice="removed files stay on a disk until it is overwritten"),
)


def bucket_problem(table_uri: str) -> list[PlaceReport]:
    """Return a problem when the bucket of a table keeps removed objects as versions, or does not tell."""
    if not table_uri.startswith(("s3://", "s3a://")):
        return []
    bucket = strip_protocol(table_uri).split("/", 1)[0]
    try:
        status = filesystem(table_uri).call_s3("get_bucket_versioning", Bucket=bucket).get("Status")
    except Exception as error:  # noqa: BLE001  (stores answer in many ways when they do not know the request)
        kind = type(error).__name__
        problem = f"the store does not say whether it keeps versions of removed objects ({kind}): ask its owner"
        return [PlaceReport(place="object versions", location=f"s3://{bucket}", action="not looked into", look=problem)]
    if status is None:
        return [PlaceReport(place="object versions", location=f"s3://{bucket}", look="the bucket keeps no versions")]
    return [
        PlaceReport(
            place="object versions",
            location=f"s3://{bucket}",
            action="not erased",
            problem=f"versioning is {status.lower()}: removed files stay until a lifecycle rule removes their versions",
        )
    ]
