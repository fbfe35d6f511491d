"""Decide about a version that waits for a person, after the run that made it has ended."""

from sbert.errors import RegistryError
from sbert.registry.approval import Approval
from sbert.registry.store import Registry
from sbert.retrain.gate import Decision
from sbert.retrain.promotion import REPORT_NAME
from sbert.retrain.retrain_inputs import RUNS_FOLDER
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.run_records import DECISION_NAME
from sbert.storage.files import join, write_bytes

__all__ = ["decide_version"]


def decide_version(models_uri: str, version: str, approval: Approval) -> RetrainReport:
    """Approve or refuse a version that passed the gate, and promote it when it is approved.

    Raises:
        RegistryError: there is no such version, it does not wait for a decision, or it was compared with a version that is
            no longer production.
        PromotionConflictError: another run promoted a version at this moment.
    """
    registry = Registry(models_uri)
    record, production = registry.version(version), registry.production()
    if record.decision is None or record.labels is None or production is None:
        raise RegistryError(f"{registry.uri}: {version} was imported and does not wait for a decision")
    decision = Decision.model_validate(record.decision)
    if approval.approved and production.encoder_fingerprint != decision.production_fingerprint:
        raise RegistryError(
            f"{registry.uri}: {version} was compared with the encoder {decision.production_fingerprint[:12]}, but "
            f"production is {production.version} ({production.encoder_fingerprint[:12]}) now: run `sbert retrain` again, or "
            "refuse it"
        )
    decided = registry.record_approval(version, approval)
    assert decided.approval is not None
    reason = f"{decision.reason}; {decided.approval.sentence()}"
    if decided.approval.approved:
        registry.promote(version, current=production, reason=reason, run_id=record.run_id)
    report = RetrainReport(
        promoted=decided.approval.approved,
        version=version if decided.approval.approved else production.version,
        primary_metric=decision.primary.metric,
        before=decision.primary.before,
        after=decision.primary.after,
        reason=reason,
        candidate=version,
        previous=production.version,
        model_uri=registry.model_uri(version if decided.approval.approved else production.version),
        decision=decision,
        labels=record.labels,
        num_new_objects=0,
        approval=decided.approval,
        report_uri=registry.file_uri(version, REPORT_NAME),
        run_id=record.run_id,
    )
    if record.run_key:  # the same labels are not decided on again
        uri = join(registry.uri, RUNS_FOLDER, record.run_key, DECISION_NAME)
        write_bytes(uri, report.model_dump_json(indent=1).encode())
    return report
