"""Run one trial of a search of settings on a worker."""

from prefect import task

from sbert.retrain.trial import TrialEnd, TrialJob, run_trial_in_worker
from tasks.retries import RETRIED

__all__ = ["TrialAssignment", "try_settings"]


class TrialAssignment:
    """A trial for one worker; a plain class, which Prefect does not search for futures."""

    def __init__(self, trial: TrialJob) -> None:
        """Store a trial."""
        self.trial = trial

    @property
    def name(self) -> str:
        """The number of the trial in the report."""
        return str(self.trial.place)


@task(name="try settings", task_run_name="trial {assignment.name}", tags={"sbert-train"}, **RETRIED)
def try_settings(assignment: TrialAssignment) -> TrialEnd:
    """Train with the settings of a trial; a retry continues from the last checkpoint."""
    return run_trial_in_worker(assignment.trial)
