"""Prepare a retraining: what there is to learn from, what production is, what an earlier run left.

The one idea: like a refresh, a retraining is known by what goes in. The *run key* hashes labels, settings, base and what
it is measured on.
What was decided once is not decided again (so a rollback stays until there are new labels), a run that was killed while
training goes on from its last checkpoint in ``_runs/``, one that was killed after storing a version that passed only
promotes and announces it.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.sentence_encoder import DEFAULT_MODEL
from sbert.errors import TooFewLabelsError
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels
from sbert.registry.card import model_card
from sbert.registry.pointer import Action, Pointer, resolve_model
from sbert.registry.store import LabelsRecord, LeakageRecord, Registry, VersionRecord
from sbert.retrain.label_rows import (
    check_leakage,
    deciding_labels,
    dev_set,
    evaluation_sets,
    label_settings,
    load_measured,
)
from sbert.retrain.settings import RetrainJob
from sbert.storage.files import join, normalize_uri
from sbert.training.continual import mix_rows
from sbert.training.settings import TrainingSettings

__all__ = ["Prepared", "prepare"]

FORMAT = 1
"""Raised when the same settings would train or judge otherwise than before."""
RUNS_FOLDER = "_runs"


class Prepared(BaseModel):
    """What a run starts from; small enough to travel to any worker."""

    model_config = ConfigDict(frozen=True)

    models_uri: str
    run_id: str
    run_key: str = Field(description="Hash of labels, settings, base, held-out set and guards.")
    labels: LabelsRecord
    known_objects: frozenset[str] = Field(description="Source objects of labels that the base learned from.")
    production: Pointer
    base: str = Field(description="Model that training begins with.")
    base_fingerprint: str
    stored: str | None = Field(
        description="A version that passed the gate in a run that was killed then, to be promoted."
    )

    @property
    def production_uri(self) -> str:
        """Model folder of production."""
        return Registry(self.models_uri).model_uri(self.production.version)

    @property
    def run_uri(self) -> str:
        """Folder of what runs of this key leave: checkpoints, the decision."""
        return join(self.models_uri, RUNS_FOLDER, self.run_key)


def prepare(job: RetrainJob, run_id: str) -> Prepared:
    """Read the labels and find out what production is; an empty registry gets its first version.

    Raises:
        LabelError, EvaluationError: when the labels cannot be learned from or judged by, or leak into what judges.
        SettingsError: when nothing can decide, the primary metric is unknown, or the training settings do not fit together.
        ModelError: when the base cannot be loaded.
    """
    models_uri = normalize_uri(job.models_uri)
    labels = load_labels(job.labels_uri, label_settings(job))
    training = job.settings.training_for(labels.kind)
    deciding = deciding_labels(job, labels)
    sets = evaluation_sets(job, deciding)  # what cannot be judged need not be trained
    dev_set(job, deciding)
    leakage = check_leakage(job, labels, sets)
    registry = Registry(models_uri)
    named = _resolved(job.base) if job.base else None
    production = registry.production() or _first_version(registry, named, run_id)
    versions = registry.versions()
    base = named or registry.model_uri(production.version)
    fingerprint = load_measured(base).fingerprint if named else production.encoder_fingerprint
    known = _learned_objects(registry, versions, base)
    if not job.force:
        _check_enough(labels, known, training, job.settings.labels.min_train_rows)
    others = job.settings.model_dump(mode="json", exclude={"recipe", "training", "keep_refused"})
    measured_on = [deciding.fingerprint, *(item.fingerprint for item in sets[1:])]
    facts = [FORMAT, labels.fingerprint, others, training.model_dump(mode="json"), named and fingerprint, measured_on]
    run_key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
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
    return Prepared(
        models_uri=models_uri,
        run_id=run_id,
        run_key=run_key,
        labels=LabelsRecord(
            uri=normalize_uri(job.labels_uri),
            kind=labels.kind.value,
            fingerprint=labels.fingerprint,
            counts=labels.counts(),
            objects=sorted(labels.object_keys),
            leakage=[
                LeakageRecord(name=name, num_rows=num_rows, num_leaking=report.num_leaking.get(name, 0))
                for report in leakage
                for name, num_rows in report.num_rows.items()
            ],
        ),
        known_objects=known,
        production=production,
        base=base,
        base_fingerprint=fingerprint,
        stored=stored[-1] if stored and not job.force else None,
    )


def _resolved(base: str) -> str:
    """Give the one spelling of a named base; a registry means the version that is production now, in records as well."""
    return resolve_model(normalize_uri(base)) if "://" in base or Path(base).is_dir() else base


def _learned_objects(registry: Registry, versions: Sequence[VersionRecord], base: str) -> frozenset[str]:
    """Give the label objects that a model learned from: its own, its base's, and so on; none for one from elsewhere."""
    records = {registry.model_uri(record.version): record for record in versions}
    found: set[str] = set()
    while (record := records.pop(base, None)) is not None:
        found.update(record.labels.objects if record.labels else ())
        base = record.base
    return frozenset(found)


def _check_enough(labels: LabelSet, known: frozenset[str], training: TrainingSettings, least: int) -> None:
    """Check that the new rows, with those that are replayed, are enough to train on.

    Raises:
        TooFewLabelsError: when they are not.
    """
    share = training.continual.replay_share
    num_rows = mix_rows(labels, known, share, training.seed).height
    if num_rows < least:
        num_new = labels.new_rows(known).height
        needed = math.ceil(10_000 * (least - num_new) / least) / 10_000
        raise TooFewLabelsError(
            f"{num_rows} rows to train on, {num_new} of {labels.train.height} train rows are new to the base and "
            f"{num_rows - num_new} replayed, at least {least} are needed (labels.min_train_rows): label more, raise "
            f"training.continual.replay_share ({share:g}) to {needed:g} or more to train on known rows as well, or train on "
            "all rows (--force)"
        )


def _first_version(registry: Registry, base: str | None, run_id: str) -> Pointer:
    """Import the base, or the packaged default, as the first production version."""
    model = base or DEFAULT_MODEL
    encoder = load_measured(model)
    with tempfile.TemporaryDirectory(prefix="sbert-import-") as folder:
        encoder.save_pretrained(folder)
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
        record.version, current=None, reason=f"the registry was empty: {model}", run_id=run_id, action=Action.FIRST
    )
