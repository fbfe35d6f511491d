"""The stages of a refresh, as they are shown to people."""

from collections.abc import Callable
from enum import StrEnum

__all__ = ["OnStage", "Stage", "ignore_stage"]


class Stage(StrEnum):
    """The stages of a refresh."""

    LISTING = "listing objects"
    CHECKING_ENCODER = "checking encoder"
    LOADING_ENCODER = "loading encoder"
    COMPARING = "comparing source and table"
    INDEXING = "reading which texts the table has"
    ENCODING = "encoding"
    REBUILDING = "rebuilding splits that share ids"
    COMMITTING = "checking and committing"


OnStage = Callable[[Stage], None]
"""Called when a stage begins."""


def ignore_stage(stage: Stage) -> None:
    """Show nothing."""
