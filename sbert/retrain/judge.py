"""Train a candidate and judge it against production."""

import math
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.evaluation.evaluate import EncoderEvaluation, TextVectors, evaluate, primary_metric
from sbert.evaluation.label_metrics import LOWER_IS_BETTER, measure_one
from sbert.evaluation.robustness_sets import robustness_sets
from sbert.retrain.gate import Decision, decide
from sbert.retrain.label_rows import RetrainRows, load_measured, unchanged_rows
from sbert.retrain.retrain_inputs import RetrainInputs
from sbert.retrain.settings import RetrainJob
from sbert.training.result import StopReason, TrainingProgress, TrainingResult
from sbert.training.train import train_encoder

__all__ = ["Judgement", "dev_score", "judge_candidate", "train_candidate"]


class Judgement(BaseModel):
    """The decision and the numbers behind it."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    before: EncoderEvaluation
    after: EncoderEvaluation


def train_candidate(
    job: RetrainJob,
    inputs: RetrainInputs,
    folder: Path,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fine-tune the base on the labels into `folder`. A killed run with the same key continues from its last checkpoint.

    Raises:
        LabelError: when the labels changed since `find_inputs`.
        TrainingError: when training cannot be done; nothing is stored.
    """
    rows = unchanged_rows(job, inputs.row_fingerprints)
    return train_encoder(
        inputs.base,
        rows.labels,
        job.settings.training_for(rows.labels.kind),
        folder,
        evaluate_dev=dev_score(job, rows),
        dev_texts=None if rows.dev is None else rows.dev.texts(),
        checkpoints_uri=inputs.checkpoints_uri,
        known_objects=frozenset() if job.force else inputs.known_objects,
        on_progress=on_progress,
    )


def dev_score(job: RetrainJob, rows: RetrainRows) -> Callable[[SentenceEncoder], float] | None:
    """Return the function that compares checkpoints: the primary metric, measured on dev rows instead of test rows.

    The sign of a metric is inverted when lower is better. None when there are no dev rows, as when all of a few labels a
    class are trained on: then the last checkpoint is the candidate.
    """
    if rows.dev is None:
        return None
    dev, settings = rows.dev, job.settings.evaluation
    metric = primary_metric(dev, settings)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return lambda encoder: sign * measure_one(dev, TextVectors(encoder), settings, metric).value


def judge_candidate(job: RetrainJob, inputs: RetrainInputs, result: TrainingResult) -> Judgement:
    """Measure production and candidate with the same code on the same frozen rows, and decide.

    The candidate is loaded from the folder that would be stored.

    Raises:
        LabelError: when the labels, or a set that is measured on, changed since `find_inputs`.
    """
    rows = unchanged_rows(job, inputs.row_fingerprints)
    settings = job.settings
    production = load_measured(inputs.production_uri)
    candidate = load_measured(result.folder)
    texts = rows.sets[0].texts()
    sets = [*rows.sets, *robustness_sets(texts, settings.gate.robustness, seed=settings.evaluation.seed)]
    before = evaluate(production, sets, settings.evaluation)
    is_production = candidate.fingerprint == production.fingerprint
    after = before if is_production else evaluate(candidate, sets, settings.evaluation)
    objections = _training_objections(job, inputs, result)
    decision = decide(before, after, settings.gate, settings.evaluation, objections=objections)
    return Judgement(decision=decision, before=before.summary, after=after.summary)


def _training_objections(job: RetrainJob, inputs: RetrainInputs, result: TrainingResult) -> list[str]:
    """Return reasons from training against a candidate: it diverged, or no checkpoint was better on dev."""
    training = job.settings.training_for(inputs.labels.kind)
    objections = []
    if result.stop_reason is StopReason.NAN_LOSS:
        objections.append(
            f"training diverged: {result.stop_detail}; the best checkpoint before is kept and not promoted; lower "
            f"training.learning_rate ({training.learning_rate:g})"
        )
    if not result.improved:
        best = max((point.values["dev"] for point in result.history if "dev" in point.values), default=math.nan)
        objections.append(
            f"no checkpoint was better on dev than the encoder that training began with: {best:.4f} at best, "
            f"{result.dev_before:.4f} before (training.min_improvement {training.min_improvement:g}): "
            f"{inputs.production.version} stays; label more, or change training.learning_rate "
            f"({training.learning_rate:g}) or training.epochs ({training.epochs:g})"
        )
    return objections
