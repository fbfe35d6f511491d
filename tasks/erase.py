"""Erase rows, and leave the receipt."""

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from sbert.erase.ids_file import read_keys
from sbert.erase.receipt import Receipt, receipt_markdown
from sbert.erase.run import erase
from tasks.retries import RETRIED
from tasks.sync import load_secret

__all__ = ["erase_everywhere", "report_erasure"]


@task(name="erase rows", **RETRIED)
def erase_everywhere(
    table_uri: str,
    ids_uri: str,
    destinations: Mapping[str, str],
    derived: Sequence[str],
    labels_uri: str | None,
    models_uri: str | None,
    *,
    is_dry_run: bool,
    allow_missing: bool = False,
) -> Receipt:
    """Erase the rows that a file names; `destinations` names a Prefect Secret block for each location."""
    return erase(
        table_uri,
        read_keys(ids_uri),
        destinations=list(destinations),
        derived=derived,
        labels_uri=labels_uri,
        models_uri=models_uri,
        is_dry_run=is_dry_run,
        allow_missing=allow_missing,
        secrets={location: load_secret(block) for location, block in destinations.items()},
    )


@task(name="report erasure", cache_policy=NO_CACHE)
def report_erasure(receipt: Receipt) -> None:
    """Leave the receipt as a Markdown artifact."""
    create_markdown_artifact(
        key="erasure-receipt", markdown=receipt_markdown(receipt), description=f"{receipt.table_uri}"
    )
