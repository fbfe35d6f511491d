"""The rows of a retraining: labels to learn from, and frozen rows to measure encoders on."""

from collections.abc import Sequence
from dataclasses import dataclass
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

__all__ = ["RetrainRows", "load_measured", "read_rows", "unchanged_rows"]


@dataclass(frozen=True)
class RetrainRows:
    """All rows that a retraining reads. They are read once; every step of the run uses them."""

    labels: LabelSet
    """The labels that training learns from."""
    sets: tuple[EvaluationSet, ...]
    """The sets that encoders are measured on: the rows that decide, then the regression sets."""
    dev: EvaluationSet | None
    """The rows on which checkpoints are compared; None when there are no dev rows."""
    leakage: tuple[LeakageReport, ...]
    """The overlap of the measured rows with the train rows."""
    fingerprints: tuple[str, ...]
    """Fingerprints of the labels, the label set that decides, and each regression set."""


def load_measured(model: str) -> SentenceEncoder:
    """Load an encoder for measuring: in float32 on every machine, so that it has the same fingerprint everywhere."""
    return SentenceEncoder.from_pretrained(model, compute_dtype=ComputeDtype.FLOAT32)


def read_rows(job: RetrainJob) -> RetrainRows:
    """Read and check all rows of a retraining, and keep them in memory for the later steps of the run.

    Raises:
        LabelError: when the labels cannot be learned from, or leak into the rows that are measured on.
        EvaluationError: when there are too few rows to measure on, or they cannot tell two encoders apart.
        SettingsError: when nothing can decide, or the rows do not have the primary metric.
    """
    _read_rows.cache_clear()
    rows = _read_rows(_reading(job))
    job.settings.training_for(rows.labels.kind)  # settings that do not fit together are refused now
    return rows


def unchanged_rows(job: RetrainJob, fingerprints: tuple[str, ...]) -> RetrainRows:
    """Return the rows of a run, if they still have these fingerprints.

    A step in the process that called `read_rows` gets them from memory; a step in another process reads them.

    Raises:
        LabelError: when the rows changed since `read_rows`.
    """
    rows = _read_rows(_reading(job))
    if rows.fingerprints != fingerprints:
        before, now = (" ".join(each[:12] for each in parts) for parts in (fingerprints, rows.fingerprints))
        raise LabelError(
            f"{job.labels_uri}: the labels, or a set that is measured on, changed during the run (fingerprints {before} "
            f"before, {now} now): run again"
        )
    return rows


def _reading(job: RetrainJob) -> str:
    """Return the job without the settings of training, which decide nothing about the rows, as JSON."""
    settings = job.settings.model_copy(update={"training": None, "recipe": None, "search": None})
    return job.model_copy(update={"settings": settings}).model_dump_json()


@lru_cache(maxsize=1)
def _read_rows(job_json: str) -> RetrainRows:
    job = RetrainJob.model_validate_json(job_json)
    labels = load_labels(job.labels_uri, _label_settings(job))
    deciding = deciding_labels(job, labels)
    sets = evaluation_sets(job, deciding)
    return RetrainRows(
        labels=labels,
        sets=tuple(sets),
        dev=dev_set(job, deciding),
        leakage=tuple(check_leakage(job, labels, sets)),
        fingerprints=(labels.fingerprint, deciding.fingerprint, *(item.fingerprint for item in sets[1:])),
    )


def _label_settings(job: RetrainJob) -> LabelSettings:
    """Return how the labels are read. When they decide, their rows keep the columns that results are sliced by."""
    labels = job.settings.labels
    return _with_slice_columns(job, labels) if job.settings.held_out is None else labels


def _with_slice_columns(job: RetrainJob, labels: LabelSettings) -> LabelSettings:
    kept = (*labels.keep_columns, *job.settings.evaluation.slice_columns)
    return labels.model_copy(update={"keep_columns": kept})


def deciding_labels(job: RetrainJob, labels: LabelSet) -> LabelSet:
    """Return the labels whose held-out rows decide: the set `held_out`, else the labels themselves.

    Raises:
        SettingsError: when the labels are plain texts and no `held_out` is named.
    """
    held_out = job.settings.held_out
    if held_out is not None:
        return load_labels(held_out.uri, _with_slice_columns(job, held_out.labels), to_train=False)
    if labels.kind is LabelKind.TEXTS:
        raise SettingsError(
            f"{job.labels_uri}: plain texts do not say which of two encoders is better: name a labelled set as "
            'held_out, such as {"held_out": {"name": "sts", "uri": "…"}}'
        )
    return labels


def evaluation_sets(job: RetrainJob, deciding: LabelSet) -> list[EvaluationSet]:
    """Freeze the rows that decide, and the rows of each regression set.

    Raises:
        EvaluationError: when there are too few rows, or they cannot tell two encoders apart.
        SettingsError: when the rows that decide do not have the primary metric.
    """
    settings = job.settings
    split = settings.held_out.split if settings.held_out else "test"
    regression_sets = [
        frozen_set(
            load_labels(item.uri, item.labels, to_train=False),
            settings.evaluation.model_copy(update={"slice_columns": ()}),
            name=item.name,
            split=item.split,
        )
        for item in settings.regression_sets
    ]
    sets = [frozen_set(deciding, settings.evaluation, split=split), *regression_sets]
    primary_metric(sets[0], settings.evaluation)
    for item in regression_sets:
        primary_metric(item, settings.evaluation.model_copy(update={"primary_metric": None}))
    return sets


def dev_set(job: RetrainJob, deciding: LabelSet) -> EvaluationSet | None:
    """Freeze the dev rows of the labels that decide; checkpoints are compared on them. None when there are none.

    Raises:
        EvaluationError: when there is one dev row only, or the rows cannot tell two encoders apart.
        SettingsError: when the rows do not have the primary metric.
    """
    if deciding.dev.is_empty():
        return None
    settings = job.settings.evaluation.model_copy(update={"slice_columns": (), "min_test_rows": 2})
    rows = frozen_set(deciding, settings, name="dev", split="dev")
    primary_metric(rows, settings)
    return rows


def check_leakage(job: RetrainJob, labels: LabelSet, sets: Sequence[EvaluationSet]) -> list[LeakageReport]:
    """Find rows of `held_out` and of the regression sets that also occur among the train rows.

    Splits that the source gives were checked when the labels were read. Plain texts may overlap: they contain no labels.

    Raises:
        LeakageError: when a set shares more of its rows than the `max_leakage` of its own settings.
    """
    named = {item.name: item for item in job.settings.regression_sets}
    if job.settings.held_out is not None:
        named[HELD_OUT] = job.settings.held_out
    reports = [labels.leakage] if labels.splits_given else []
    for item in sets:
        if item.name not in named:
            continue
        settings = named[item.name].labels
        report = find_overlap(
            item.name, item.rows, item.kind, labels.train, labels.kind, settings.near_duplicate_similarity
        )
        reports.append(report)
        if report.share > settings.max_leakage and labels.kind is not LabelKind.TEXTS:
            examples = "; ".join(f"{ours!r} = {theirs!r}" for ours, theirs in report.examples[:2])
            raise LeakageError(
                f"{item.name}: {report.num_leaking[item.name]} of {item.rows.height} rows ({report.share:.1%}) are also "
                f"among the train rows of {job.labels_uri}, above max_leakage {settings.max_leakage:.1%} of its "
                f"labels: {examples}. Remove these rows from train, or name another set"
            )
    return reports
