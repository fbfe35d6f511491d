"""Store the candidate as a version, and promote it when the gate, and a person where one is asked, accepted it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbert.registry.approval import Approval
from sbert.registry.card import model_card
from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from sbert.retrain.gate import Decision
from sbert.retrain.judge import Judgement
from sbert.retrain.report_page import report_html
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import join, write_bytes
from sbert.training.result import TrainingResult

__all__ = ["decide_stored", "promote_stored", "store_and_promote"]

REPORT_NAME = "report.html"


def store_and_promote(
    job: RetrainJob, inputs: RetrainInputs, result: TrainingResult, judgement: Judgement
) -> RetrainReport:
    """Store the candidate as a version, and promote it when the gate accepted it.

    A candidate that is production itself is not stored; its report lies beside the decision of the run.

    Raises:
        PromotionConflictError: when production changed since `find_inputs`; the version stays stored.
    """
    registry, decision = Registry(inputs.models_uri), judgement.decision
    record = _version_record(job, inputs, result, judgement)
    if decision.candidate_fingerprint == decision.production_fingerprint:
        report_uri = join(inputs.run_uri, REPORT_NAME)
        write_bytes(report_uri, report_html(record, judgement, result).encode())
        report = _report(inputs, decision, candidate=None, report_uri=report_uri)
    else:

        def attachments(named: VersionRecord) -> Mapping[str, bytes]:
            return {
                "model/README.md": model_card(named).encode(),
                REPORT_NAME: report_html(named, judgement, result).encode(),
            }

        record = registry.add(record, Path(result.folder), attachments)
        report = _promote_if_accepted(registry, inputs, record)
    return report.model_copy(update=_training_facts(result))


def promote_stored(inputs: RetrainInputs) -> RetrainReport:
    """Promote the accepted version that an earlier run stored before it was killed.

    Raises:
        PromotionConflictError: when production changed since `find_inputs`.
    """
    assert inputs.stored is not None
    registry = Registry(inputs.models_uri)
    return _promote_if_accepted(registry, inputs, registry.version(inputs.stored))


def decide_stored(inputs: RetrainInputs, report: RetrainReport, approval: Approval) -> RetrainReport:
    """Carry out a person's decision about the version of a report, or the decision that another person made before.

    Raises:
        PromotionConflictError: when production changed since `find_inputs`; the decision is written down all the same.
    """
    assert report.candidate is not None
    registry = Registry(inputs.models_uri)
    record = registry.version(report.candidate)
    if record.awaits_approval:
        record = registry.record_approval(report.candidate, approval)
    decided = _promote_if_accepted(registry, inputs, record)
    decided_fields = {"promoted", "version", "model_uri", "reason", "approval", "awaits_approval"}
    return report.model_copy(update={name: getattr(decided, name) for name in decided_fields})


def _promote_if_accepted(registry: Registry, inputs: RetrainInputs, record: VersionRecord) -> RetrainReport:
    decision = Decision.model_validate(record.decision)
    is_production = record.version == inputs.production.version  # the killed run may have come this far
    is_promoted = decision.promoted and record.was_accepted and not record.awaits_approval
    reason = decision.reason if record.approval is None else f"{decision.reason}; {record.approval.sentence()}"
    if is_promoted and not is_production:
        registry.promote(record.version, current=inputs.production, reason=reason, run_id=inputs.run_id)
    report_uri = registry.file_uri(record.version, REPORT_NAME)
    report = _report(inputs, decision, candidate=record.version, report_uri=report_uri, is_promoted=is_promoted)
    return report.model_copy(
        update={"reason": reason, "approval": record.approval, "awaits_approval": record.awaits_approval}
    )


def _report(
    inputs: RetrainInputs, decision: Decision, *, candidate: str | None, report_uri: str, is_promoted: bool = False
) -> RetrainReport:
    version = candidate if is_promoted and candidate is not None else inputs.production.version
    return RetrainReport(
        promoted=is_promoted,
        version=version,
        primary_metric=decision.primary.metric,
        before=decision.primary.before,
        after=decision.primary.after,
        reason=decision.reason,
        candidate=candidate,
        previous=inputs.production.version,
        model_uri=Registry(inputs.models_uri).model_uri(version),
        decision=decision,
        labels=inputs.labels,
        num_new_objects=len(frozenset(inputs.labels.objects) - inputs.known_objects),
        report_uri=report_uri,
        run_id=inputs.run_id,
    )


def _training_facts(result: TrainingResult) -> dict[str, Any]:
    return {
        "stop_reason": result.stop_reason.value,
        "dev_before": None if math.isnan(result.dev_before) else result.dev_before,
        "dev_best": None if math.isnan(result.dev_best) else result.dev_best,
        "num_steps": result.num_steps,
        "training_notes": result.notes,
        "trials": result.trials,
    }


def _version_record(
    job: RetrainJob, inputs: RetrainInputs, result: TrainingResult, judgement: Judgement
) -> VersionRecord:
    training = job.settings.training_for(inputs.labels.kind)
    return VersionRecord(
        version="",
        encoder_fingerprint=judgement.decision.candidate_fingerprint,
        dim=judgement.after.dim,
        base=inputs.base,
        run_id=inputs.run_id,
        run_key=inputs.run_key,
        labels=inputs.labels,
        settings=job.settings.model_dump(mode="json") | {"training": training.model_dump(mode="json")},
        training={key: value for key, value in result.to_record().items() if key != "folder"},
        decision=judgement.decision.model_dump(mode="json"),
        before=judgement.before.model_dump(mode="json"),
        after=judgement.after.model_dump(mode="json"),
    )
