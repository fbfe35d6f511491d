"""Tell others what a retraining decided: an event for automations, an artifact for people."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from sbert.retrain.plots import curves_picture, gains_picture
from sbert.retrain.retrain_report import RetrainReport
from sbert.training.result import TrainingResult
from tasks.markdown import escaped, markdown_table

__all__ = ["MODEL_PROMOTED", "MODEL_REJECTED", "announce_decision", "report_retrain"]

MODEL_PROMOTED = "sbert.model.promoted"
MODEL_REJECTED = "sbert.model.rejected"


@task(name="announce decision", cache_policy=NO_CACHE)
def announce_decision(models_uri: str, report: RetrainReport) -> None:
    """Emit `sbert.model.promoted`, on which tables are re-embedded, or `sbert.model.rejected`."""
    emit_event(
        event=MODEL_PROMOTED if report.promoted else MODEL_REJECTED,
        resource={
            "prefect.resource.id": f"sbert.registry.{models_uri}",
            "prefect.resource.name": models_uri,
            "sbert.version": report.version,
        },
        payload={
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
        },
    )  # fmt: skip


@task(name="report retrain", cache_policy=NO_CACHE)
def report_retrain(report: RetrainReport, result: TrainingResult | None, margin: float) -> None:
    """Leave decision, numbers, intervals and curves as a Markdown artifact."""
    create_markdown_artifact(
        key="retrain-report", markdown=report_markdown(report, result, margin), description=report.reason[:200]
    )


def report_markdown(report: RetrainReport, result: TrainingResult | None, margin: float) -> str:
    """Give a report as Markdown; texts that come from outside are escaped, pictures are inlined."""
    decision = report.decision
    compared = [decision.primary, *decision.regression_sets]
    rows = [
        (
            f"{escaped(item.set_name)}: {escaped(item.metric)}",
            f"{item.before:.4f} → {item.after:.4f}, gain {item.gain:+.4f} [{item.low:+.4f}, {item.high:+.4f}]"
            + ("" if item.tolerance is None else f", accepted drop {item.tolerance:g}")
            + f" ({item.num_rows:,} rows `{item.rows_fingerprint[:12]}`)",
        )
        for item in compared
    ]
    sections = [
        f"# {_verdict(report)}",
        escaped(report.reason),
        markdown_table(
            ("", ""),
            [
                ("production before", escaped(report.previous)),
                ("production now", escaped(report.version)),
                ("production's fingerprint", f"`{decision.production_fingerprint[:16]}`"),
                ("candidate's fingerprint", f"`{decision.candidate_fingerprint[:16]}`"),
                (
                    "labels",
                    f"`{escaped(report.labels.uri)}` ({escaped(report.labels.kind)}, {report.labels.fingerprint[:12]})",
                ),
                *(
                    (f"{escaped(item.name)} rows found in train", f"{item.num_leaking:,} of {item.num_rows:,}")
                    for item in report.labels.leakage
                ),
                ("training", f"{report.stop_reason} after {report.num_steps:,} steps"),
                ("report", f"`{escaped(report.report_uri or '')}`"),
            ],
        ),
        "## What decided",
        markdown_table(("metric", "production → candidate"), rows),
        f"![gains with intervals]({gains_picture(compared, margin)})",
    ]
    if result is not None:
        picture = curves_picture(result.history, result.dev_before, result.best_step)
        sections += ["## Training", f"![loss and dev metric]({picture})"]
    return "\n\n".join(sections)


def _verdict(report: RetrainReport) -> str:
    if report.decided_before:
        return f"Nothing new: {escaped(report.version)} stays"
    return f"{'Promoted' if report.promoted else 'Refused'}: {escaped(report.candidate or 'no new model')}"
