"""Prepare a retraining: what there is to learn from, what production is, what an earlier run left.

The one idea: like a refresh, a retraining is known by what goes in. The *run key* hashes labels, settings and base.
What was decided once is not decided again (so a rollback stays until there are new labels), a run that was killed while
training goes on from its last checkpoint in ``_runs/``, one that was killed after storing a version that passed only
promotes and announces it.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder import DEFAULT_MODEL
from sbert.labels import load_labels
from sbert.registry import LabelsRecord, LeakageRecord, Pointer, Registry, VersionRecord
from sbert.registry.pointer import Action
from sbert.retrain.rows import check_leakage, evaluation_sets, label_settings, load_measured
from sbert.retrain.settings import RetrainJob
from sbert.storage import join, normalize_uri

__all__ = ["Prepared", "prepare"]

FORMAT = 1
"""Raised when the same settings would train or judge otherwise than before."""
RUNS_FOLDER = "_runs"


class Prepared(BaseModel):
    """What a run starts from; small enough to travel to any worker."""

    model_config = ConfigDict(frozen=True)

    models_uri: str
    run_id: str
    run_key: str = Field(description="Hash of labels, settings and base.")
    labels: LabelsRecord
    known_objects: frozenset[str] = Field(description="Source objects of labels that earlier versions learned from.")
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
        SettingsError: when nothing can decide.
        ModelError: when the base cannot be loaded.
    """
    models_uri = normalize_uri(job.models_uri)
    labels = load_labels(job.labels_uri, label_settings(job))
    leakage = check_leakage(job, labels, evaluation_sets(job, labels))  # what cannot be judged need not be trained
    registry = Registry(models_uri)
    production = registry.production() or _first_version(registry, job, run_id)
    versions = registry.versions()
    base = job.base or registry.model_uri(production.version)
    fingerprint = load_measured(base).fingerprint if job.base else production.encoder_fingerprint
    training = job.settings.training_for(labels.kind).model_dump(mode="json")
    others = job.settings.model_dump(mode="json", exclude={"recipe", "training", "keep_refused"})
    facts = [FORMAT, labels.fingerprint, others, training, job.base and fingerprint]
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
        known_objects=frozenset(
            key for record in versions if record.labels and record.was_accepted for key in record.labels.objects
        ),
        production=production,
        base=base,
        base_fingerprint=fingerprint,
        stored=stored[-1] if stored and not job.force else None,
    )


def _first_version(registry: Registry, job: RetrainJob, run_id: str) -> Pointer:
    """Import the base, or the packaged default, as the first production version."""
    model = job.base or DEFAULT_MODEL
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
        )
    return registry.promote(
        record.version, current=None, reason=f"the registry was empty: {model}", run_id=run_id, action=Action.FIRST
    )
