"""Progress of a flow run in the Prefect UI: one artifact with a share and a line of text."""

from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

__all__ = ["open_progress", "show_progress"]


def open_progress(description: str) -> UUID:
    """Create the progress artifact of the current flow run and return its id."""
    created = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(created, UUID)
    return created


def show_progress(artifact: UUID, share: float, description: str) -> None:
    """Update a progress artifact; `share` is between 0 and 1."""
    update_progress_artifact(artifact, progress=round(100 * share, 1), description=description)
