"""The rows of a retraining: labels to learn from, frozen rows to judge by."""

from collections.abc import Sequence
from functools import lru_cache

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import LabelError, LeakageError, SettingsError
from sbert.evaluation.evaluate import primary_metric
from sbert.evaluation.frozen_sets import HELD_OUT, EvaluationSet, frozen_set
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet, LeakageReport
from sbert.labels.load import load_labels
from sbert.labels.overlap import find_overlap
from sbert.labels.settings import LabelSettings
from sbert.retrain.settings import RetrainJob

__all__ = [
    "check_leakage",
    "deciding_labels",
    "dev_set",
    "evaluation_sets",
    "label_settings",
    "load_measured",
    "load_unchanged",
]


def load_measured(model: str) -> SentenceEncoder:
    """Load an encoder as it is measured and known by: in float32 on every machine, so that its fingerprint is one."""
    return SentenceEncoder.from_pretrained(model, compute_dtype=ComputeDtype.FLOAT32)


def label_settings(job: RetrainJob) -> LabelSettings:
    """Give how the labels are read: where they decide, with the columns that their rows are sliced by."""
    labels = job.settings.labels
    return _sliced(job, labels) if job.settings.held_out is None else labels


def _sliced(job: RetrainJob, labels: LabelSettings) -> LabelSettings:
    kept = (*labels.keep_columns, *job.settings.evaluation.slice_columns)
    return labels.model_copy(update={"keep_columns": kept})


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


def evaluation_sets(job: RetrainJob, deciding: LabelSet) -> list[EvaluationSet]:
    """Freeze the rows that decide, of `deciding_labels`, and those of the guards.

    Raises:
        EvaluationError: when there are too few rows, or rows that say nothing about what is right (plain texts).
        SettingsError: when the rows that decide do not have the primary metric.
    """
    settings = job.settings
    split = settings.held_out.split if settings.held_out else "test"
    guards = [
        frozen_set(
            load_labels(guard.uri, guard.labels, to_train=False),
            settings.evaluation.model_copy(update={"slice_columns": ()}),
            name=guard.name,
            split=guard.split,
        )
        for guard in settings.guards
    ]
    sets = [frozen_set(deciding, settings.evaluation, split=split), *guards]
    primary_metric(sets[0], settings.evaluation)
    for guard in guards:
        primary_metric(guard, settings.evaluation.model_copy(update={"primary_metric": None}))
    return sets


def dev_set(job: RetrainJob, deciding: LabelSet) -> EvaluationSet | None:
    """Freeze the rows that checkpoints are compared on: dev rows of `deciding_labels`; None when there are none.

    Raises:
        EvaluationError: when there is one dev row only.
        SettingsError: when the rows do not have the primary metric.
    """
    if deciding.dev.is_empty():
        return None
    settings = job.settings.evaluation.model_copy(update={"slice_columns": (), "min_test_rows": 2})
    rows = frozen_set(deciding, settings, name="dev", split="dev")
    primary_metric(rows, settings)
    return rows


def deciding_labels(job: RetrainJob, labels: LabelSet) -> LabelSet:
    """Give the labels whose held-out rows decide: those of `held_out`, else the labels themselves.

    Raises:
        SettingsError: when the labels have nothing to decide by and no set that does is named.
    """
    held_out = job.settings.held_out
    if held_out is not None:
        return load_labels(held_out.uri, _sliced(job, held_out.labels), to_train=False)
    if labels.kind is LabelKind.TEXTS:
        raise SettingsError(
            f"{job.labels_uri}: plain texts do not say which of two encoders is better: name a labelled set as "
            'held_out, such as {"held_out": {"name": "sts", "uri": "…"}}'
        )
    return labels


def check_leakage(job: RetrainJob, labels: LabelSet, sets: Sequence[EvaluationSet]) -> list[LeakageReport]:
    """Give what the measured rows share with the train rows: splits of the labels, `held_out`, guards.

    Given splits of the labels were checked when they were read, and what they shared was taken out of train. Plain texts
    may be among the train rows: they give no label away.

    Raises:
        LeakageError: when a named set shares more than the `max_leakage` of its own settings.
    """
    named = {guard.name: guard for guard in job.settings.guards}
    if job.settings.held_out is not None:
        named[HELD_OUT] = job.settings.held_out
    found = [labels.leakage] if labels.splits_given else []
    for item in sets:
        if item.name not in named:
            continue
        settings = named[item.name].labels
        report = find_overlap(
            item.name, item.rows, item.kind, labels.train, labels.kind, settings.near_duplicate_similarity
        )
        found.append(report)
        if report.share > settings.max_leakage and labels.kind is not LabelKind.TEXTS:
            examples = "; ".join(f"{ours!r} = {theirs!r}" for ours, theirs in report.examples[:2])
            raise LeakageError(
                f"{item.name}: {report.num_leaking[item.name]} of {item.rows.height} rows ({report.share:.1%}) are also "
                f"among the train rows of {job.labels_uri}, allowed are {settings.max_leakage:.1%} (max_leakage of its "
                f"labels): {examples}. Remove these rows from train, or name another set"
            )
    return found
