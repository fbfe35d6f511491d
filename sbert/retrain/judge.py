"""Train a candidate and judge it against production."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sbert.encoder import SentenceEncoder
from sbert.evaluation import EncoderEvaluation, TextVectors, evaluate, frozen_set, primary_metric
from sbert.evaluation.kinds import measure
from sbert.gate import Decision, decide
from sbert.labels import LabelSet
from sbert.retrain.prepare import Prepared
from sbert.retrain.rows import deciding_labels, evaluation_sets, label_settings, load_measured, load_unchanged
from sbert.retrain.settings import RetrainJob
from sbert.storage import join
from sbert.training import StopReason, TrainingProgress, TrainingResult, train_encoder

__all__ = ["Judgement", "dev_score", "judge", "train"]


class Judgement(BaseModel):
    """The decision and the numbers behind it."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    before: EncoderEvaluation
    after: EncoderEvaluation


def train(
    job: RetrainJob,
    prepared: Prepared,
    folder: Path,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fine-tune the base on the labels into `folder`; a killed run of the same key goes on from its last checkpoint.

    Raises:
        LabelError: when the labels are no longer those that were prepared.
        TrainingError: when training cannot be done; nothing is stored.
    """
    labels = load_unchanged(job.labels_uri, label_settings(job), prepared.labels.fingerprint)
    return train_encoder(
        prepared.base,
        labels,
        job.settings.training_for(labels.kind),
        folder,
        evaluate_dev=dev_score(job, labels),
        checkpoints_uri=join(prepared.run_uri, prepared.base_fingerprint[:12]),
        known_objects=prepared.known_objects,
        on_progress=on_progress,
    )


def dev_score(job: RetrainJob, labels: LabelSet) -> Callable[[SentenceEncoder], float] | None:
    """Give the function that checkpoints are compared by: the primary metric, on dev rows instead of test rows.

    None when there are no dev rows, as with a few labels a class that all train: then the last checkpoint is the candidate.

    Raises:
        EvaluationError: when there is one dev row only.
    """
    deciding = deciding_labels(job, labels)
    if deciding.dev.is_empty():
        return None
    settings = job.settings.evaluation.model_copy(update={"slice_columns": (), "min_test_rows": 2})
    rows = frozen_set(deciding, settings, name="dev", split="dev")
    metric = primary_metric(rows, settings)
    return lambda encoder: measure(rows, TextVectors(encoder), settings)[metric].value


def judge(job: RetrainJob, prepared: Prepared, result: TrainingResult) -> Judgement:
    """Measure production and candidate, by the same code on the same frozen rows, and decide.

    The candidate is loaded from the folder that would be stored.

    Raises:
        LabelError: when the labels are no longer those that were prepared.
    """
    labels = load_unchanged(job.labels_uri, label_settings(job), prepared.labels.fingerprint)
    sets = evaluation_sets(job, labels)
    production = load_measured(prepared.production_uri)
    candidate = load_measured(result.folder)
    before = evaluate(production, sets, job.settings.evaluation)
    same = candidate.fingerprint == production.fingerprint
    after = before if same else evaluate(candidate, sets, job.settings.evaluation)
    decision = decide(
        before, after, job.settings.gate, job.settings.evaluation, also_against=_objections(result, prepared)
    )
    return Judgement(decision=decision, before=before.summary, after=after.summary)


def _objections(result: TrainingResult, prepared: Prepared) -> list[str]:
    """Give what speaks against a candidate before it is measured."""
    found = []
    if result.stop_reason is StopReason.NAN_LOSS:
        found.append(
            "the loss became NaN: training stopped, the best checkpoint before is kept and not promoted; lower the "
            "learning rate"
        )
    if not result.improved:
        found.append(
            f"no checkpoint was better on dev than the encoder that training began with ({result.dev_before:.4f}): "
            f"{prepared.production.version} stays"
        )
    return found
