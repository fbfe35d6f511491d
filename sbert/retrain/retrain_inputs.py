"""Find the inputs of a retraining: labels, production, base, and the files of an earlier, killed run.

Like a refresh, a retraining is identified by its inputs. The *run key* hashes the labels, the settings, the base and
the rows that are measured on. Three things follow:

- Labels and settings that a run has decided on are not decided on again. A rollback lasts until there are new labels.
- A run that was killed while training continues from its last checkpoint in ``_runs/``.
- A run that was killed after it had stored an accepted version only promotes and announces this version.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.errors import MissingError, TooFewLabelsError
from sbert.evaluation.robustness_settings import RobustnessSettings
from sbert.labels.label_set import LabelSet
from sbert.registry.card import model_card
from sbert.registry.pointer import Pointer, PointerReason, resolve_model
from sbert.registry.store import Registry
from sbert.registry.version_record import LabelsRecord, LeakageRecord, VersionRecord
from sbert.retrain.label_rows import RetrainRows, load_measured, read_rows
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import join, normalize_uri, read_bytes
from sbert.training.classifier_files import copy_classifier
from sbert.training.continual import mix_rows
from sbert.training.learned_texts import copy_learned_texts
from sbert.training.settings import TrainingSettings

__all__ = ["RUNS_FOLDER", "RetrainInputs", "find_inputs"]

FORMAT = 1
"""Raised when equal inputs would be trained or judged differently than before."""
RUNS_FOLDER = "_runs"
PROMPTS_FILE = "config_sentence_transformers.json"
NOT_IN_KEY = frozenset({"recipe", "training", "keep_refused", "keep_checkpoints_days"})
"""Settings that do not decide the outcome; the recipe and its changes enter the key as complete training settings."""


NOT_IN_KEY_OF_GATE = ("approval", "approval_hours")
"""Settings of approval, which change neither the training nor the comparison."""


class RetrainInputs(BaseModel):
    """The inputs of one run; small enough to send to any worker."""

    model_config = ConfigDict(frozen=True)

    models_uri: str
    run_id: str
    run_key: str = Field(description="Hash of labels, settings, base, held-out set and regression sets.")
    labels: LabelsRecord
    row_fingerprints: tuple[str, ...] = Field(
        description="`RetrainRows.fingerprints`: the rows must stay what they are."
    )
    known_objects: frozenset[str] = Field(description="Source objects of labels that the base learned from.")
    production: Pointer
    base: str = Field(description="Model that training begins with.")
    base_fingerprint: str
    stored: str | None = Field(
        description="Accepted version that a killed run stored and did not promote; it is promoted without training."
    )

    @property
    def production_uri(self) -> str:
        """Model folder of production."""
        return Registry(self.models_uri).model_uri(self.production.version)

    @property
    def run_uri(self) -> str:
        """Folder of the files of all runs with this key: checkpoints, the report of a refusal, the decision."""
        return join(self.models_uri, RUNS_FOLDER, self.run_key)

    @property
    def checkpoints_uri(self) -> str:
        """Folder of the checkpoints that began with this base."""
        return join(self.run_uri, self.base_fingerprint[:12])


def find_inputs(job: RetrainJob, run_id: str) -> RetrainInputs:
    """Read the labels and the registry. An empty registry gets its first version.

    Raises:
        LabelError, EvaluationError: when the labels cannot be learned from or judged by, or leak into what judges.
        SettingsError: when nothing can decide, the primary metric is unknown, or the training settings do not fit together.
        ModelError: when the base cannot be loaded.
        RegistryError: when the models folder holds other things than a registry.
    """
    Registry(job.models_uri).check(may_be_new=True)
    rows = read_rows(job)  # labels that cannot be judged by are refused before anything is written or trained
    labels = rows.labels
    training = job.settings.training_for(labels.kind)
    registry = Registry(job.models_uri)
    named_base = _resolved(job.base) if job.base else None
    production = registry.production() or _first_version(registry, named_base, run_id)
    versions = registry.versions()
    base = named_base or registry.model_uri(production.version)
    fingerprint = load_measured(base).fingerprint if named_base else production.encoder_fingerprint
    known_objects = _learned_objects(registry, versions, base)
    if not job.force:
        _check_enough(labels, known_objects, training, job.settings.labels.min_train_rows)
    prompts = _prompts(base) | _prompts(registry.model_uri(production.version))
    run_key = _run_key(job, rows, training, fingerprint if named_base else None, prompts)
    return RetrainInputs(
        models_uri=registry.uri,
        run_id=run_id,
        run_key=run_key,
        labels=_labels_record(job, rows),
        row_fingerprints=rows.fingerprints,
        known_objects=known_objects,
        production=production,
        base=base,
        base_fingerprint=fingerprint,
        stored=None if job.force else _stored_by_killed_run(versions, run_key, production),
    )


def _run_key(
    job: RetrainJob, rows: RetrainRows, training: TrainingSettings, named_base: str | None, prompts: dict[str, str]
) -> str:
    """Return 32 hex digits of everything that decides the outcome of a run; ``named_base`` is a fingerprint.

    Prompts enter the key only when there are any: runs of earlier releases, which measured without them, keep their keys
    and decisions when the encoders have none.
    """
    settings = job.settings.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    for name in NOT_IN_KEY_OF_GATE:
        del settings["gate"][name]
    learning = training.model_dump(mode="json")
    if job.settings.gate.robustness == RobustnessSettings():  # earlier releases had no robustness sets
        del settings["gate"]["robustness"]
    if learning["continual"]["rehearsal_weight"] in {None, job.settings.usual_rehearsal_weight}:  # and no rehearsal
        del learning["continual"]["rehearsal_weight"]
    if job.settings.search is None:  # earlier releases had no search
        del settings["search"]
    settings["guards"] = settings.pop("regression_sets")  # the name of this setting when the first keys were made
    labels, *measured_on = rows.fingerprints
    parts: list[object] = [FORMAT, labels, settings, learning, named_base, measured_on]
    if prompts:
        parts.append(prompts)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _prompts(model_uri: str) -> dict[str, str]:
    """Return the prompts of a model folder that are not empty; none for a hub id, whose folder is not read here."""
    try:
        config = json.loads(read_bytes(join(model_uri, PROMPTS_FILE)))
    except (MissingError, ValueError):
        return {}
    return {name: prompt for name, prompt in config.get("prompts", {}).items() if prompt}


def _labels_record(job: RetrainJob, rows: RetrainRows) -> LabelsRecord:
    return LabelsRecord(
        uri=normalize_uri(job.labels_uri),
        kind=rows.labels.kind.value,
        fingerprint=rows.labels.fingerprint,
        counts=rows.labels.counts(),
        objects=sorted(rows.labels.object_keys),
        leakage=[
            LeakageRecord(name=name, num_rows=num_rows, num_leaking=report.num_leaking.get(name, 0))
            for report in rows.leakage
            for name, num_rows in report.num_rows.items()
        ],
    )


def _stored_by_killed_run(versions: Sequence[VersionRecord], run_key: str, production: Pointer) -> str | None:
    """Return the newest accepted version of the same inputs that was compared with the present production."""
    stored = [
        record.version
        for record in versions
        if record.run_key == run_key
        and record.decision is not None
        and record.was_accepted
        and (
            record.version == production.version
            or record.decision["production_fingerprint"] == production.encoder_fingerprint
        )
    ]
    return stored[-1] if stored else None


def _resolved(base: str) -> str:
    """Return the location of a named base in one spelling. A registry means its present production version."""
    return resolve_model(normalize_uri(base)) if "://" in base or Path(base).is_dir() else base


def _learned_objects(registry: Registry, versions: Sequence[VersionRecord], base: str) -> frozenset[str]:
    """Return the label objects that a model and its bases learned from; none for a model from outside the registry."""
    records = {registry.model_uri(record.version): record for record in versions}
    objects: set[str] = set()
    while (record := records.pop(base, None)) is not None:
        objects.update(record.labels.objects if record.labels else ())
        base = record.base
    return frozenset(objects)


def _check_enough(labels: LabelSet, known_objects: frozenset[str], training: TrainingSettings, least: int) -> None:
    """Check that the new rows and the replayed rows are enough to train on.

    Raises:
        TooFewLabelsError: when they are not.
    """
    share = training.continual.replay_share
    num_rows = mix_rows(labels, known_objects, share, training.seed).height
    if num_rows < least:
        num_new = labels.new_rows(known_objects).height
        needed = math.ceil(10_000 * (least - num_new) / least) / 10_000
        raise TooFewLabelsError(
            f"training needs at least {least} rows (labels.min_train_rows), but there are {num_rows}: {num_new} of "
            f"{labels.train.height} train rows that are new to the base, and {num_rows - num_new} replayed. Label more, "
            f"raise training.continual.replay_share ({share:g}) to {needed:g} or more to train on known rows as well, or "
            "train on all rows (--force)"
        )


def _first_version(registry: Registry, base: str | None, run_id: str) -> Pointer:
    """Import the base, or the packaged default model, as the first production version."""
    model = base or DEFAULT_MODEL
    encoder = load_measured(model)
    with tempfile.TemporaryDirectory(prefix="sbert-import-") as folder:
        encoder.save_pretrained(folder)
        copy_classifier(locate_model(model), Path(folder))
        copy_learned_texts(locate_model(model), Path(folder))
        record = registry.add(
            VersionRecord(
                version="",
                encoder_fingerprint=load_measured(folder).fingerprint,
                dim=encoder.dim,
                base=model,
                run_id=run_id,
            ),
            Path(folder),
            lambda named: {"model/README.md": model_card(named).encode()},
        )
    return registry.promote(
        record.version,
        current=None,
        reason=f"the registry was empty: {model}",
        run_id=run_id,
        action=PointerReason.FIRST,
    )
