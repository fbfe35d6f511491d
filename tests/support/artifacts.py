"""Artifacts of a run, read from the Prefect server."""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

__all__ = ["artifacts_of"]


def artifacts_of(run_id: str) -> list[Any]:
    """Return the artifacts that a flow run left."""
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
