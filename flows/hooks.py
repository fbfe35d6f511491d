"""What a run that did not end well leaves behind: an artifact that says what happened and what to do.

Prefect calls a hook with exactly (flow, flow_run, state): in the flow's process when it fails, in the worker's when it
crashed or was cancelled.
"""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State, StateType

from sbert.storage.redaction import redact
from tasks.markdown import escaped

__all__ = ["HOOKS", "leave_trace"]

OF_TABLES = {
    StateType.FAILED: "Nothing half-done is in the table: it is as the message says, else as it was before. Remedy what the "
    "message says; the next run goes on from the splits that are finished.",
    StateType.CRASHED: "The process is gone (killed, out of memory, or its machine stopped). The table is as it was before; "
    "the next run goes on from the splits that are finished.",
    StateType.CANCELLING: "Stopped by a person. The table is as it was before; the next run goes on from the splits "
    "that are finished.",
}
"""Cancelled runs have their hook called while they are still being cancelled."""
OF_RETRAINING = {
    StateType.FAILED: "Production is as the message says, else as it was before. Remedy what the message says; the next run "
    "goes on from the last checkpoint.",
    StateType.CRASHED: "The process is gone (killed, out of memory, or its machine stopped). Production is as it was "
    "before, or a candidate that had passed; the next run goes on from the last checkpoint.",
    StateType.CANCELLING: "Stopped by a person. Production is as it was before, or a candidate that had passed; the next "
    "run goes on from the last checkpoint.",
}
OF_WATCHING = {
    StateType.FAILED: "New labels that were not handed over are found again by the next run. Remedy what the message says.",
    StateType.CRASHED: "The process is gone (killed, out of memory, or its machine stopped). New labels that were not "
    "handed over are found again by the next run.",
    StateType.CANCELLING: "Stopped by a person. New labels that were not handed over are found again by the next run.",
}
ADVICE = {"retrain-encoder": OF_RETRAINING, "watch-labels": OF_WATCHING}
"""By flow; all others work on tables."""


def leave_trace(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Leave a Markdown artifact at the run."""
    with get_client(sync_client=True) as client:
        run_name = str(client.read_flow_run(flow_run.id).name)  # a worker knows the name that the run began with
        markdown = failure_markdown(str(flow.name), run_name, state)
        client.create_artifact(
            ArtifactCreate(
                key="what-happened",
                type="markdown",
                description=f"{run_name}: {state.name}",
                data=markdown,
                flow_run_id=flow_run.id,
            )
        )


def failure_markdown(flow_name: str, run_name: str, state: State[Any]) -> str:
    """Give the text of the artifact; whatever comes from data is escaped, credentials are taken out."""
    message = escaped(redact(state.message or "no message"))
    advice = ADVICE.get(flow_name, OF_TABLES).get(state.type, "")
    return (
        f"# {escaped(run_name)}: {escaped(state.name or state.type.value)}\n\n"
        f"**{escaped(flow_name)}** ended at {state.timestamp:%Y-%m-%d %H:%M:%S} UTC:\n\n> {message}\n\n{advice}\n"
    )


HOOKS: dict[str, Any] = {
    "on_failure": [leave_trace],
    "on_crashed": [leave_trace],
    "on_cancellation": [leave_trace],
}
"""For the decorator of every flow: ``@flow(..., **HOOKS)``."""
