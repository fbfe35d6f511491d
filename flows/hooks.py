"""Leave an artifact for a run that did not complete: it names the cause and the next step.

Prefect calls a hook with exactly (flow, flow_run, state): in the flow's process when the flow fails or is interrupted, in
the worker's process when the flow's process died or was cancelled.
"""

import time
from enum import StrEnum
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import emit_event
from prefect.states import Cancelled

from flows.prefect_defaults import set_defaults
from sbert.storage.redaction import redact
from tasks.markdown import render

__all__ = ["FLOW_RUN_ENDED", "HOOKS", "leave_trace", "tell_end"]

FLOW_RUN_ENDED = "sbert.flow-run.ended"
ENDED_AGAIN_SECONDS = 1.0
"""Time after which the server has handled a heartbeat that was sent before."""

set_defaults()  # every flow imports this module, so a script that calls a flow has the defaults, too


class Ending(StrEnum):
    """The end of a run, as the artifact's title says it."""

    FAILED = "Failed"
    CRASHED = "Crashed"
    CANCELLED = "Cancelled"
    INTERRUPTED = "Stopped by Ctrl-C"
    TERMINATED = "Stopped by a termination signal"


REASONS = {
    Ending.FAILED: "Solve the problem that the message names.",
    Ending.CRASHED: "The process died: it was killed, ran out of memory, or its machine stopped.",
    Ending.CANCELLED: "A person or an automation cancelled the run.",
    Ending.INTERRUPTED: "A person stopped the run in its terminal.",
    Ending.TERMINATED: "Someone, or the machine shutting down, told the process to stop.",
}
"""The likely cause of each ending of a run."""
NEXT_STEPS = {
    "retrain-encoder": "Production is as the message says, else as it was before, or a candidate that had passed. The next "
    "run goes on from the last checkpoint.",
    "watch-labels": "The next run finds new labels that were not handed over again.",
    "erase-rows": "Tombstones that were written are in force. The next run with the same ids finishes the erasure.",
    "upkeep-table": "Readers see no half-done step. The next run does the steps that are missing.",
}
"""State of the data by flow, and what the next run does."""
NEXT_STEPS_OF_TABLES = (
    "Nothing half-done is in the table: it is as the message says, else as it was before. The next run goes on from the "
    "splits that are finished."
)
INTERRUPT_MESSAGE = "interrupt signal"
TERMINATION_MESSAGE = "termination signal"
"""Words of Prefect's own state messages; the state carries nothing else that tells these endings apart."""


def leave_trace(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Leave a Markdown artifact at the run; a run that was stopped by Ctrl-C becomes Cancelled instead of Crashed."""
    ending = ending_of(state)
    with get_client(sync_client=True) as client:
        run_name = str(client.read_flow_run(flow_run.id).name)  # a worker knows the name that the run began with
        client.create_artifact(
            ArtifactCreate(
                key="what-happened",
                type="markdown",
                description=f"{run_name}: {ending}",
                data=ending_markdown(str(flow.name), run_name, state),
                flow_run_id=flow_run.id,
            )
        )
        if ending is Ending.INTERRUPTED:
            client.set_flow_run_state(flow_run.id, Cancelled(message="Stopped by Ctrl-C."), force=True)


def tell_end(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Emit `sbert.flow-run.ended`, which the server gets after the run's last heartbeat.

    Without it, a heartbeat that arrives after the end would start the wait for the next heartbeat, and the automation of
    `deployments/automations.yaml` would try to crash a finished run. The server may handle events of the same moment in
    another order: a run that takes less than a second sends its only heartbeat when it ends. So a run of a
    deployment emits the event a second time.
    """
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"}
    emit_event(FLOW_RUN_ENDED, resource=resource)
    if flow_run.deployment_id is not None:
        time.sleep(ENDED_AGAIN_SECONDS)
        emit_event(FLOW_RUN_ENDED, resource=resource)


def ending_of(state: State[Any]) -> Ending:
    """Return how a run ended; a run that is being cancelled has its hook called before it is cancelled."""
    message = state.message or ""
    if state.type in {StateType.CANCELLING, StateType.CANCELLED}:
        return Ending.CANCELLED
    if state.type is StateType.FAILED:
        return Ending.FAILED
    if INTERRUPT_MESSAGE in message:
        return Ending.INTERRUPTED
    return Ending.TERMINATED if TERMINATION_MESSAGE in message else Ending.CRASHED


def ending_markdown(flow_name: str, run_name: str, state: State[Any]) -> str:
    """Return the artifact's text; text from data is escaped and credentials are taken out."""
    ending = ending_of(state)
    return render(
        "ending.md.j2",
        run_name=run_name,
        flow_name=flow_name,
        ending=ending,
        ended=f"{state.timestamp:%Y-%m-%d %H:%M:%S}",
        message=redact(state.message or "no message"),
        reason=REASONS[ending],
        next_steps=NEXT_STEPS.get(flow_name, NEXT_STEPS_OF_TABLES),
    )


HOOKS: dict[str, Any] = {
    "on_completion": [tell_end],
    "on_failure": [leave_trace, tell_end],
    "on_crashed": [leave_trace, tell_end],
    "on_cancellation": [leave_trace, tell_end],
}
"""Hooks for the decorator of every flow: ``@flow(..., **HOOKS)``."""
