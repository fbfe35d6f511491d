"""Train a candidate and judge it against production."""

import math
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.evaluation.evaluate import EncoderEvaluation, TextVectors, evaluate, primary_metric
from sbert.evaluation.label_metrics import LOWER_IS_BETTER, measure_one
from sbert.labels.label_set import LabelSet
from sbert.retrain.gate import Decision, decide
from sbert.retrain.label_rows import (
    deciding_labels,
    dev_set,
    evaluation_sets,
    label_settings,
    load_measured,
    load_unchanged,
)
from sbert.retrain.retrain_inputs import Prepared
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import join
from sbert.training.result import StopReason, TrainingProgress, TrainingResult
from sbert.training.train import train_encoder

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
        known_objects=frozenset() if job.force else prepared.known_objects,
        on_progress=on_progress,
    )


def dev_score(job: RetrainJob, labels: LabelSet) -> Callable[[SentenceEncoder], float] | None:
    """Give the function that checkpoints are compared by: the primary metric, on dev rows instead of test rows.

    A metric of which less is better has its sign turned. None when there are no dev rows, as with a few labels a class
    that all train: then the last checkpoint is the candidate.

    Raises:
        EvaluationError, SettingsError: as `dev_set`.
    """
    rows = dev_set(job, deciding_labels(job, labels))
    if rows is None:
        return None
    settings = job.settings.evaluation
    metric = primary_metric(rows, settings)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return lambda encoder: sign * measure_one(rows, TextVectors(encoder), settings, metric).value


def judge(job: RetrainJob, prepared: Prepared, result: TrainingResult) -> Judgement:
    """Measure production and candidate, by the same code on the same frozen rows, and decide.

    The candidate is loaded from the folder that would be stored.

    Raises:
        LabelError: when the labels are no longer those that were prepared.
    """
    labels = load_unchanged(job.labels_uri, label_settings(job), prepared.labels.fingerprint)
    sets = evaluation_sets(job, deciding_labels(job, labels))
    production = load_measured(prepared.production_uri)
    candidate = load_measured(result.folder)
    before = evaluate(production, sets, job.settings.evaluation)
    same = candidate.fingerprint == production.fingerprint
    after = before if same else evaluate(candidate, sets, job.settings.evaluation)
    decision = decide(
        before, after, job.settings.gate, job.settings.evaluation, also_against=_objections(job, result, prepared)
    )
    return Judgement(decision=decision, before=before.summary, after=after.summary)


def _objections(job: RetrainJob, result: TrainingResult, prepared: Prepared) -> list[str]:
    """Give what speaks against a candidate before it is measured."""
    training = job.settings.training_for(prepared.labels.kind)
    found = []
    if result.stop_reason is StopReason.NAN_LOSS:
        found.append(
            f"training diverged: {result.stop_detail}; the best checkpoint before is kept and not promoted; lower "
            f"training.learning_rate ({training.learning_rate:g})"
        )
    if not result.improved:
        best = max((point.values["dev"] for point in result.history if "dev" in point.values), default=math.nan)
        found.append(
            f"no checkpoint was better on dev than the encoder that training began with: {best:.4f} at best, "
            f"{result.dev_before:.4f} before (training.min_improvement {training.min_improvement:g}): "
            f"{prepared.production.version} stays; label more, or change training.learning_rate "
            f"({training.learning_rate:g}) or training.epochs ({training.epochs:g})"
        )
    return found
