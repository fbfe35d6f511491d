"""Ask a person in the Prefect UI: whether a candidate that passed the gate becomes production, and other questions."""

import datetime as dt
import logging
import math
import threading
from typing import TypeVar
from uuid import UUID

from prefect.exceptions import NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from pydantic import Field

from sbert.counted import counted
from sbert.registry.approval import NOBODY, Approval, made_now
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from tasks.markdown import escaped

__all__ = ["PromotionForm", "ask_in_prefect", "can_ask", "wait_for_person"]

log = logging.getLogger(__name__)

Form = TypeVar("Form", bound=RunInput)

POLL_SECONDS = 10
GRACE_SECONDS = 3_600
"""Prefect ends a pause so long after the time in which a person may answer."""


class PromotionForm(RunInput):
    """The form that the Prefect UI shows for a paused retraining."""

    approve: bool = Field(
        default=False, title="Approve", description="On: the candidate becomes production. Off: it is refused."
    )
    name: str = Field(default="", title="Your name", description="Who decides; it stands in the version's record.")
    reason: str = Field(default="", title="Reason", description="Why; it stands in the version's record.")


def ask_in_prefect(job: RetrainJob, report: RetrainReport) -> Approval | None:
    """Pause the run until a person fills in the form; refuse when nobody does within `gate.approval_hours`.

    A temporary server has no UI: then no one is asked, and the version waits. A run that is killed while it waits leaves the
    version waiting, and the next run asks again.
    """
    if not can_ask():
        return None
    hours = job.settings.gate.approval_hours
    log.info(
        "%s waits for approval: choose Resume in the menu of this run in the Prefect UI; report: %s",
        report.candidate,
        report.report_uri,
    )
    form = PromotionForm.with_initial_data(description=_question(report, hours))
    answer = wait_for_person(form, hours=hours, setting="gate.approval_hours", key=f"approve-{report.candidate}")
    return made_now(approved=answer.approve, name=answer.name, reason=answer.reason)


def can_ask() -> bool:
    """Return whether there is a UI to ask in; a temporary server has none."""
    return get_current_settings().api.url is not None


def wait_for_person(form: type[Form], *, hours: float, setting: str, key: str) -> Form:
    """Pause the run until a person fills in a form, and return the form. If nobody does, return it with a refusal.

    Args:
        form: it has the fields `approve`, `name` and `reason`; all others need defaults.
        hours: how long a person has time.
        setting: name of the setting that says so.
        key: names the question; the same question of a resumed run is asked once.
    """
    is_answered = threading.Event()
    silence = threading.Thread(
        target=_refuse_late, args=[UUID(str(flow_run.get_id())), hours, setting, is_answered], daemon=True
    )
    silence.start()
    try:
        answer = pause_flow_run(
            wait_for_input=form, timeout=math.ceil(hours * 3600) + GRACE_SECONDS, poll_interval=POLL_SECONDS, key=key
        )
    finally:
        is_answered.set()
    return answer


def _refuse_late(run_id: UUID, hours: float, setting: str, is_answered: threading.Event) -> None:
    """Refuse when nobody has answered the form in time.

    Without this answer Prefect fails the run at the end of the pause, and nothing is decided.
    """
    reason = f"nobody answered within {hours:g} hours ({setting})"
    is_over = is_answered.wait(hours * 3600)
    while not is_over:
        try:
            resume_flow_run(run_id, run_input={"approve": False, "name": NOBODY, "reason": reason})
        except NotPausedError:  # the pause is not recorded yet, or a person was faster by a moment
            is_over = is_answered.wait(1)
        else:
            is_over = True


def _question(report: RetrainReport, hours: float) -> str:
    """Return the question of the form, as Markdown."""
    decision = report.decision
    until = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    gains = "\n".join(
        f"- {escaped(item.set_name)}, {item.metric}: {item.before:.4f} → {item.after:.4f}, gain {item.gain:+.4f} (interval "
        f"{item.low:+.4f} to {item.high:+.4f}, {counted(item.num_rows, 'row')})"
        for item in [decision.primary, *decision.regression_sets]
    )
    lines = [
        f"**{report.candidate}** passed the gate. Shall it become production in place of {report.previous}?",
        gains,
        f"Report: `{escaped(report.report_uri or '')}`",
        f"Without an answer until {until:%Y-%m-%d %H:%M} UTC it is refused.",
    ]
    return "\n\n".join(lines)
