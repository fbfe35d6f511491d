"""A model carries hashes of the texts that it learned from, and its classifier, wherever it goes."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ModelError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.registry.store import Registry
from sbert.retrain.run import retrain
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.rows.cleaning import hash_texts
from sbert.storage.files import join, write_bytes
from sbert.training.classifier_files import NAMES_FILE, WEIGHTS, ClassifierFiles
from sbert.training.learned_texts import LEARNED_TEXTS_NAME, LearnedTexts
from sbert.training.settings import Objective, TrainingSettings
from sbert.training.train import train_encoder
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import FAST, toy_labels, toy_rows

RISING: dict[str, Any] = {"epochs": 2, "early_stopping_patience": None}


def train(base: str, labels: LabelSet, folder: Path, objective: Objective, **options: Any) -> str:
    """Train until the second epoch, which counts as the better one."""
    scores = iter([0.0, 0.1, 0.2])
    settings = TrainingSettings(objective=objective, **RISING, **FAST)
    return train_encoder(base, labels, settings, folder, evaluate_dev=lambda _: next(scores), **options).folder


def record_of(folder: str) -> LearnedTexts:
    found = LearnedTexts.read(folder)
    assert found is not None
    return found


def hashes(texts: pl.Series) -> set[bytes]:
    return set(hash_texts(texts))


def test_train_rows_are_learned_dev_rows_choose_and_test_rows_are_neither(base: str, tmp_path: Path) -> None:
    labels = toy_labels(LabelKind.CLASSES)
    record = record_of(train(base, labels, tmp_path, Objective.CROSS_ENTROPY))
    assert record.has_labelled(labels.train["text"]).all()
    assert record.has_chosen(labels.dev["text"]).all()
    for rows in (labels.dev, labels.test):
        assert not record.has_labelled(rows["text"]).any()
    assert not record.has_chosen(labels.test["text"]).any()
    assert len(record.unlabelled) == 0


def test_the_texts_of_a_dev_set_elsewhere_are_those_that_chose(base: str, tmp_path: Path) -> None:
    labels = toy_labels(LabelKind.CLASSES)
    record = record_of(train(base, labels, tmp_path, Objective.CROSS_ENTROPY, dev_texts=["of another set"]))
    assert record.has_chosen(pl.Series(["of another set"])).all()
    assert not record.has_chosen(labels.dev["text"]).any()


def test_a_later_training_keeps_what_its_base_learned_from(base: str, tmp_path: Path) -> None:
    earlier, later = toy_labels(LabelKind.CLASSES), toy_labels(LabelKind.PAIRS, seed=1)
    first = train(base, earlier, tmp_path / "first", Objective.CROSS_ENTROPY)
    record = record_of(train(first, later, tmp_path / "second", Objective.SIMCSE))
    assert record.has_labelled(earlier.train["text"]).all()
    learned = pl.concat([later.train["anchor"].alias("text"), later.train["positive"].alias("text")])
    assert hashes(learned) <= set(record.unlabelled)  # SimCSE does not look at the pairs
    assert record.num_seen(hash_texts(learned.unique())) == learned.n_unique()
    assert ClassifierFiles.read(str(tmp_path / "second/model")) is None  # it was trained on other vectors


def test_a_training_that_changes_nothing_keeps_classifier_and_record(base: str, tmp_path: Path) -> None:
    labels = toy_labels(LabelKind.CLASSES)
    first = train(base, labels, tmp_path / "first", Objective.CROSS_ENTROPY)
    settings = TrainingSettings(objective=Objective.CROSS_ENTROPY, **RISING, **FAST)
    result = train_encoder(first, toy_labels(LabelKind.CLASSES, seed=3), settings, tmp_path, evaluate_dev=lambda _: 0.5)
    assert not result.improved
    for name in (LEARNED_TEXTS_NAME, NAMES_FILE, WEIGHTS):
        assert Path(result.folder, name).read_bytes() == Path(first, name).read_bytes()


def test_a_registry_keeps_classifier_and_record_of_imports_and_candidates(tmp_path: Path) -> None:
    toy_rows(LabelKind.CLASSES, 400).write_ndjson(tmp_path / "labels.jsonl")
    base = save_tiny(tmp_path / "base")
    classes = tuple(f"topic {number}" for number in range(10))
    dim = SentenceEncoder.from_pretrained(base).dim
    ClassifierFiles(classes, np.ones((10, dim), np.float32), np.zeros(10, np.float32)).write(Path(base))
    LearnedTexts.of(labelled=pl.Series(["an earlier text"])).write(Path(base))
    settings = {
        "labels": {"near_duplicate_similarity": 1.0, "test_share": 0.3},
        "training": {"objective": "cross_entropy", "epochs": 4, "freeze": "nothing", **FAST},
        "evaluation": {"num_resamples": 100, "bias": False, "speed_texts": 0, "perturbations": []},
        "gate": {"robustness": {"sets": []}},
    }
    job = RetrainJob(
        labels_uri=str(tmp_path / "labels.jsonl"),
        models_uri=str(tmp_path / "models"),
        base=base,
        settings=RetrainSettings.model_validate(settings),
    )
    report = retrain(job)
    assert report.candidate == "v0002", report.reason
    registry = Registry(job.models_uri)
    first, second = (registry.model_uri(version) for version in ("v0001", "v0002"))
    assert Path(first, WEIGHTS).read_bytes() == Path(base, WEIGHTS).read_bytes()
    assert Path(first, LEARNED_TEXTS_NAME).read_bytes() == Path(base, LEARNED_TEXTS_NAME).read_bytes()
    trained = ClassifierFiles.read(second)
    assert trained is not None
    assert trained.classes == classes
    record = record_of(second)
    assert record.has_labelled(pl.Series(["an earlier text"])).all()
    assert len(record.labelled) > 100
    assert len(record.chosen_on) > 10


def test_a_record_is_read_from_object_storage_and_holds_no_text(s3_bucket: str, tmp_path: Path) -> None:

    record = LearnedTexts.of(labelled=pl.Series(["my  card is <b>lost</b>", None, "my card is lost"]))
    record.write(tmp_path)
    content = (tmp_path / LEARNED_TEXTS_NAME).read_bytes()
    assert b"card" not in content
    write_bytes(join(s3_bucket, "model", LEARNED_TEXTS_NAME), content)
    found = record_of(join(s3_bucket, "model"))
    assert found.checksum == record.checksum
    assert found.has_labelled(pl.Series(["my card is lost", " my card is lost", "lost"])).to_list() == [
        True,
        True,
        False,
    ]
    assert LearnedTexts.read(join(s3_bucket, "nowhere")) is None


@pytest.mark.parametrize("damage", [lambda content: content[:-1] + b"\0", lambda content: content[:40], lambda _: b""])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, damage: Any) -> None:
    LearnedTexts.of(labelled=pl.Series(["a", "b"])).write(tmp_path)
    file = tmp_path / LEARNED_TEXTS_NAME
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=r"learned_texts.safetensors: the record .* is damaged .*: copy it again"):
        LearnedTexts.read(str(tmp_path))


def test_a_damaged_classifier_is_an_error_that_names_it(tmp_path: Path) -> None:
    assert ClassifierFiles.read(str(tmp_path)) is None
    whole = ClassifierFiles(("a", "b"), np.eye(2, 3, dtype=np.float32), np.zeros(2, np.float32))
    whole.write(tmp_path)
    found = ClassifierFiles.read(str(tmp_path))
    assert found is not None
    assert found.fingerprint == whole.fingerprint
    (tmp_path / NAMES_FILE).write_text('{"classes": ["a", "b", "c"]}')
    with pytest.raises(ModelError, match=r"3 classes have weights of shape \(2, 3\)"):
        ClassifierFiles.read(str(tmp_path))
    (tmp_path / NAMES_FILE).write_text('["a", "b"]')
    with pytest.raises(ModelError, match="is damaged"):
        ClassifierFiles.read(str(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="is damaged"):
        ClassifierFiles.read(str(tmp_path))
