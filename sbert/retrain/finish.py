"""Finish a retraining: store the candidate, promote it if it passed, remember the decision."""

import contextlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sbert.errors import MissingError
from sbert.registry.card import model_card
from sbert.registry.store import Registry, VersionRecord
from sbert.retrain.gate import Decision
from sbert.retrain.judge import Judgement
from sbert.retrain.report_page import report_html
from sbert.retrain.retrain_inputs import Prepared
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import filesystem, join, read_bytes, strip_protocol, write_bytes
from sbert.training.result import TrainingResult

__all__ = ["earlier_decision", "finish", "remember"]

log = logging.getLogger(__name__)

REPORT_NAME = "report.html"
DECISION_NAME = "decision.json"


def earlier_decision(prepared: Prepared) -> RetrainReport | None:
    """Give the report of a run that decided on the same labels and settings; None when there was none."""
    uri = join(prepared.run_uri, DECISION_NAME)
    try:
        report = RetrainReport.model_validate_json(read_bytes(uri))
    except MissingError:
        return None
    except ValidationError as error:
        log.warning("%s cannot be read, the decision is made again: %s", uri, error)
        return None
    production = prepared.production.version
    return report.model_copy(
        update={
            "promoted": False,
            "decided_before": True,
            "num_new_objects": 0,
            "version": production,
            "previous": production,
            "model_uri": prepared.production_uri,
            "reason": f"nothing new: these labels and settings were decided on in run {report.run_id} ({report.reason})",
        }
    )


def finish(
    job: RetrainJob, prepared: Prepared, result: TrainingResult | None, judgement: Judgement | None
) -> RetrainReport:
    """Store the candidate as a version, and promote it when it passed.

    Without a result, the version that an earlier, killed run stored is promoted.

    Raises:
        PromotionConflictError: when production changed meanwhile; the version stays stored, and is not production.
    """
    registry = Registry(prepared.models_uri)
    record: VersionRecord | None
    if result is None or judgement is None:
        assert prepared.stored is not None
        record = registry.version(prepared.stored)
        decision = Decision.model_validate(record.decision)
    else:
        decision = judgement.decision
        record = _store(job, prepared, result, judgement) if _is_new(decision) else None
        if record is None:
            html = report_html(_record(job, prepared, result, judgement), judgement, result)
            write_bytes(join(prepared.run_uri, REPORT_NAME), html.encode())
    version = prepared.production.version
    if decision.promoted:
        assert record is not None  # production itself gains nothing over production
        if record.version != version:  # a killed run may have come this far
            registry.promote(
                record.version, current=prepared.production, reason=decision.reason, run_id=prepared.run_id
            )
        version = record.version
    return RetrainReport(
        promoted=decision.promoted,
        version=version,
        primary_metric=decision.primary.metric,
        before=decision.primary.before,
        after=decision.primary.after,
        reason=decision.reason,
        candidate=record.version if record is not None else None,
        previous=prepared.production.version,
        model_uri=registry.model_uri(version),
        decision=decision,
        labels=prepared.labels,
        num_new_objects=len(frozenset(prepared.labels.objects) - prepared.known_objects),
        report_uri=registry.file_uri(record.version, REPORT_NAME)
        if record is not None
        else join(prepared.run_uri, REPORT_NAME),
        run_id=prepared.run_id,
        **(_training_numbers(result) if result is not None else {}),
    )


def _is_new(decision: Decision) -> bool:
    """Whether the candidate is another model than production."""
    return decision.candidate_fingerprint != decision.production_fingerprint


def _training_numbers(result: TrainingResult) -> dict[str, Any]:
    return {
        "stop_reason": result.stop_reason.value,
        "dev_before": None if math.isnan(result.dev_before) else result.dev_before,
        "dev_best": None if math.isnan(result.dev_best) else result.dev_best,
        "num_steps": result.num_steps,
    }


def _record(job: RetrainJob, prepared: Prepared, result: TrainingResult, judgement: Judgement) -> VersionRecord:
    return VersionRecord(
        version="",
        encoder_fingerprint=judgement.decision.candidate_fingerprint,
        dim=judgement.after.dim,
        base=prepared.base,
        run_id=prepared.run_id,
        run_key=prepared.run_key,
        labels=prepared.labels,
        settings=job.settings.model_dump(mode="json")
        | {"training": job.settings.training_for(prepared.labels.kind).model_dump(mode="json")},
        training={key: value for key, value in result.to_record().items() if key != "folder"},
        decision=judgement.decision.model_dump(mode="json"),
        before=judgement.before.model_dump(mode="json"),
        after=judgement.after.model_dump(mode="json"),
    )


def _store(job: RetrainJob, prepared: Prepared, result: TrainingResult, judgement: Judgement) -> VersionRecord:
    """Write the candidate, its card and its report as the next version."""

    def attachments(named: VersionRecord) -> Mapping[str, bytes]:
        return {
            "model/README.md": model_card(named).encode(),
            REPORT_NAME: report_html(named, judgement, result).encode(),
        }

    record = _record(job, prepared, result, judgement)
    return Registry(prepared.models_uri).add(record, Path(result.folder), attachments)


def remember(job: RetrainJob, prepared: Prepared, report: RetrainReport) -> None:
    """Keep the decision, so that it is not made again; drop the run's checkpoints, and weights of old refusals."""
    write_bytes(join(prepared.run_uri, DECISION_NAME), report.model_dump_json(indent=1).encode())
    checkpoints = join(prepared.run_uri, prepared.base_fingerprint[:12])
    with contextlib.suppress(FileNotFoundError, OSError):  # left-overs cost space, not the run
        filesystem(checkpoints).rm(strip_protocol(checkpoints), recursive=True)
    Registry(prepared.models_uri).drop_refused(job.settings.keep_refused)
