"""Announce the decision of a retraining: an event for automations, an artifact for people."""

import uuid

from markupsafe import Markup
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.settings import get_current_settings

from sbert.retrain.plots import curves_picture, gains_picture
from sbert.retrain.retrain_report import RetrainReport
from sbert.training.result import TrainingResult
from tasks.events import emit_confirmed
from tasks.markdown import render

__all__ = ["MODEL_PROMOTED", "MODEL_REJECTED", "announce_decision", "report_retrain"]

MODEL_PROMOTED = "sbert.model.promoted"
MODEL_REJECTED = "sbert.model.rejected"


@task(name="announce decision", cache_policy=NO_CACHE)
def announce_decision(models_uri: str, report: RetrainReport) -> None:
    """Emit `sbert.model.promoted`, on which tables are re-embedded, or `sbert.model.rejected`.

    Raises:
        EventError: the server has not stored the promotion's event in time.
    """
    event = MODEL_PROMOTED if report.promoted else MODEL_REJECTED
    resource = {
        "prefect.resource.id": f"sbert.registry.{models_uri}",
        "prefect.resource.name": models_uri,
        "sbert.version": report.version,
    }
    payload = {
        "models_uri": models_uri,
        "model_uri": report.model_uri,
        **report.model_dump(
            mode="json",
            include={
                "promoted", "version", "previous", "candidate", "primary_metric", "before", "after", "reason", "run_id",
                "report_uri",
            },
        ),
        "candidate_fingerprint": report.decision.candidate_fingerprint,
        "production_fingerprint": report.decision.production_fingerprint,
    }  # fmt: skip
    if report.promoted and get_current_settings().api.url is not None:
        # Tables are re-embedded on this event alone, so it must not be lost. A temporary server has no followers.
        emit_confirmed(
            event, resource, payload, uuid.uuid5(uuid.NAMESPACE_URL, f"{models_uri}#{report.version}#{report.run_id}")
        )
    else:
        emit_event(event=event, resource=resource, payload=payload)


@task(name="report retrain", cache_policy=NO_CACHE)
def report_retrain(report: RetrainReport, result: TrainingResult | None, margin: float) -> None:
    """Leave decision, numbers, intervals and curves as a Markdown artifact."""
    create_markdown_artifact(
        key="retrain-report", markdown=report_markdown(report, result, margin), description=report.reason[:200]
    )


def report_markdown(report: RetrainReport, result: TrainingResult | None, margin: float) -> str:
    """Return a report as Markdown with pictures inlined."""
    compared = [report.decision.primary, *report.decision.regression_sets, *report.decision.robustness]
    curves = None if result is None else curves_picture(result.history, result.dev_before, result.best_step)
    return render(
        "retrain.md.j2",
        report=report,
        verdict=_verdict(report),
        compared=compared,
        gains=Markup(gains_picture(compared, margin)),  # noqa: S704  (our own picture, as a data: address)
        curves=None if curves is None else Markup(curves),  # noqa: S704
    )


def _verdict(report: RetrainReport) -> str:
    if report.decided_before:
        return f"Nothing new: {report.version} stays"
    if report.awaits_approval:
        return f"Waits for approval: {report.candidate}"
    return f"{'Promoted' if report.promoted else 'Refused'}: {report.candidate or 'no new model'}"
