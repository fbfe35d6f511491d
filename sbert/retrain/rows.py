"""The rows of a retraining: labels to learn from, frozen rows to judge by."""

from functools import lru_cache

from sbert.errors import LabelError, SettingsError
from sbert.evaluation import EvaluationSet, frozen_set
from sbert.labels import LabelKind, LabelSet, LabelSettings, load_labels
from sbert.retrain.settings import RetrainJob

__all__ = ["deciding_labels", "evaluation_sets", "load_unchanged"]


def load_unchanged(uri: str, settings: LabelSettings, fingerprint: str) -> LabelSet:
    """Load the labels of a run, once per process, provided that they still are those with `fingerprint`.

    Raises:
        LabelError: when they changed.
    """
    return _load_unchanged(uri, settings.model_dump_json(), fingerprint)


@lru_cache(maxsize=2)
def _load_unchanged(uri: str, settings: str, fingerprint: str) -> LabelSet:
    labels = load_labels(uri, LabelSettings.model_validate_json(settings))
    if labels.fingerprint != fingerprint:
        raise LabelError(
            f"{uri}: the labels changed during the run (fingerprint {fingerprint[:12]} before, {labels.fingerprint[:12]} "
            "now): run again"
        )
    return labels


def evaluation_sets(job: RetrainJob, labels: LabelSet) -> list[EvaluationSet]:
    """Freeze the rows that decide, and those of the guards.

    Raises:
        EvaluationError: when there are too few rows.
        SettingsError: when the labels have nothing to decide by and no set that does is named.
    """
    settings = job.settings
    deciding = deciding_labels(job, labels)
    split = settings.held_out.split if settings.held_out else "test"
    guards = [
        frozen_set(
            load_labels(guard.uri, guard.labels),
            settings.evaluation.model_copy(update={"slice_columns": ()}),
            name=guard.name,
            split=guard.split,
        )
        for guard in settings.guards
    ]
    return [frozen_set(deciding, settings.evaluation, split=split), *guards]


def deciding_labels(job: RetrainJob, labels: LabelSet) -> LabelSet:
    """Give the labels whose held-out rows decide: those of `held_out`, else the labels themselves.

    Raises:
        SettingsError: when the labels have nothing to decide by and no set that does is named.
    """
    held_out = job.settings.held_out
    if held_out is not None:
        return load_labels(held_out.uri, held_out.labels)
    if labels.kind is LabelKind.TEXTS:
        raise SettingsError(
            f"{job.labels_uri}: plain texts do not say which of two encoders is better: name a labelled set as "
            'held_out, such as {"held_out": {"name": "sts", "uri": "…"}}'
        )
    return labels
