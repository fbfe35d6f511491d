"""Inputs of a retraining: rows that are new to the base, refusals before training, the identity of a run."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from sbert.errors import EvaluationError, RegistryError, SettingsError, TooFewLabelsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from sbert.retrain.judge import dev_score, train_candidate
from sbert.retrain.label_rows import RetrainRows, read_rows
from sbert.retrain.retrain_inputs import RetrainInputs, _prompts, _run_key, find_inputs
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.training.continual import mix_rows
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import ContinualSettings, TrainingFields, TrainingSettings
from tests.support.tiny_models import prompted_encoder, save_tiny, tiny_encoder
from tests.support.toy_training import toy_rows

LOOSE = {"near_duplicate_similarity": 1.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


def write(folder: Path, name: str, num_rows: int, seed: int, kind: LabelKind = LabelKind.SCORED_PAIRS) -> str:
    folder.mkdir(exist_ok=True)
    toy_rows(kind, num_rows, seed).write_ndjson(folder / f"{name}.jsonl")
    return str(folder)


def labels(folder: Path) -> str:
    for seed, (name, num_rows) in enumerate((("train", 60), ("dev", 20), ("test", 40))):
        write(folder, name, num_rows, seed)
    return str(folder)


def job(folder: Path, *, base: str | None = None, force: bool = False, **settings: Any) -> RetrainJob:
    validated = RetrainSettings.model_validate({"labels": LOOSE} | settings)
    models = str(folder / "models")
    return RetrainJob(labels_uri=str(folder / "labels"), models_uri=models, base=base, force=force, settings=validated)


def test_a_models_folder_that_holds_other_things_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/part-0.parquet").write_bytes(b"a table")
    with pytest.raises(RegistryError, match=r"models: this folder is no model registry \(1 other entry, first: part-0"):
        find_inputs(job(tmp_path), "run")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["part-0.parquet"]


@pytest.fixture
def learned(tmp_path: Path, base: str) -> tuple[Path, Registry]:
    """A registry whose production, v0002, learned the labels there are."""
    labels(tmp_path / "labels")
    first = find_inputs(job(tmp_path, base=base), "first")
    registry = Registry(first.models_uri)
    add_trained(registry, first, base)
    return tmp_path, registry


def add_trained(registry: Registry, inputs: RetrainInputs, folder: str, base: str = "") -> str:
    """Store a version that was trained on these inputs, and make it production."""
    stored = registry.add(
        VersionRecord(
            version="", encoder_fingerprint=f"trained {len(registry.names())}", dim=32, base=base or inputs.base,
            run_id="run", labels=inputs.labels, decision={"promoted": True},
        ),
        Path(folder),
    )  # fmt: skip
    registry.promote(stored.version, current=registry.production(), reason="better", run_id="run")
    return stored.version


def trained_objects(asked: RetrainJob, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return the number of rows of each label object that a run trains on."""
    inputs, seen = find_inputs(asked, "run"), []

    def choose(_base: str, label_set: LabelSet, training: TrainingSettings, *_: object, **options: Any) -> None:
        seen.append(mix_rows(label_set, options["known_objects"], training.continual.replay_share, training.seed))

    with monkeypatch.context() as patch:
        patch.setattr("sbert.retrain.judge.train_encoder", choose)
        train_candidate(asked, inputs, Path("unused"))
    names = seen[0].select(pl.col("object").str.extract(r"([\w-]+)\.jsonl"))
    return dict(names.group_by("object").len().iter_rows())


@pytest.mark.parametrize("case", ["changed settings", "force", "force from elsewhere", "lost race", "rollback"])
def test_with_nothing_new_all_rows_are_trained_on(
    learned: tuple[Path, Registry], base: str, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    folder, registry = learned
    asked = job(folder, training={"epochs": 9})
    if case == "force":
        asked = job(folder, force=True)
    elif case == "force from elsewhere":
        asked = job(folder, force=True, base=base)
    elif case == "lost race":  # another run on the same labels was first: what passed against v0001 waits as v0003
        passed = registry.add(registry.version("v0002"), Path(base))
        assert passed.version == "v0003"
        assert find_inputs(job(folder), "run").stored is None
        asked = job(folder)
    elif case == "rollback":
        registry.rollback("v0001")
    assert trained_objects(asked, monkeypatch) == {"train": 60}


def test_rows_that_the_base_never_saw_are_trained_on(
    learned: tuple[Path, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, registry = learned
    write(folder / "labels", "train-new", 12, 7)
    assert trained_objects(job(folder), monkeypatch) == {"train-new": 12}
    version = add_trained(registry, find_inputs(job(folder), "run"), str(registry.model_uri("v0001")))
    write(folder / "labels", "train-newest", 9, 8)
    assert trained_objects(job(folder), monkeypatch) == {"train-newest": 9}
    both = {"train": 60, "train-new": 12, "train-newest": 9}
    assert trained_objects(job(folder, force=True), monkeypatch) == both
    registry.rollback("v0002")  # neither learned from the new objects, whatever versions did that are not production
    assert trained_objects(job(folder), monkeypatch) == {"train-new": 12, "train-newest": 9}
    registry.rollback("v0001")
    assert trained_objects(job(folder), monkeypatch) == both
    assert trained_objects(job(folder, base=f"{registry.uri}/{version}"), monkeypatch) == {"train-newest": 9}
    assert find_inputs(job(folder, base=registry.uri), "run").base == registry.model_uri("v0001")


def test_a_handful_of_new_rows_does_not_train_alone(
    learned: tuple[Path, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = learned
    write(folder / "labels", "train-new", 3, 7)
    message = (
        r"training needs at least 8 rows \(labels.min_train_rows\), but there are 3: 3 of 63 train rows that are new to the "
        r"base, and 0 replayed\. .*"
        r"training.continual.replay_share \(0\) to 0.625 or more .* \(--force\)"
    )
    with pytest.raises(TooFewLabelsError, match=message):
        find_inputs(job(folder), "run")
    with pytest.raises(TooFewLabelsError, match=r"there are 7: 3 of 63 .* 4 replayed"):
        find_inputs(job(folder, training={"continual": {"replay_share": 0.6}}), "run")
    replayed = job(folder, training={"continual": {"replay_share": 0.625}})
    assert trained_objects(replayed, monkeypatch) == {"train": 5, "train-new": 3}
    assert trained_objects(job(folder, force=True), monkeypatch) == {"train": 60, "train-new": 3}


def test_the_first_version_has_a_model_card(learned: tuple[Path, Registry], base: str) -> None:
    folder, _ = learned
    card = (folder / "models/v0001/model/README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert f"of dim 32, imported from `{base}`" in card


def test_a_metric_there_is_not_is_refused_before_training(tmp_path: Path, base: str) -> None:
    labels(tmp_path / "labels")
    bleu = {"primary_metric": "bleu"}
    with pytest.raises(
        SettingsError, match=r"held-out: evaluation.primary_metric is 'bleu', scored_pairs have spearman"
    ):
        find_inputs(job(tmp_path, base=base, evaluation=bleu), "run")
    graded = toy_rows(LabelKind.SCORED_PAIRS, 20, 1).with_columns(score=pl.col("score") * 0.5)
    graded.write_ndjson(tmp_path / "labels/dev.jsonl")
    with pytest.raises(
        SettingsError, match=r"dev: evaluation.primary_metric is 'f1', scored_pairs have spearman, pearson"
    ):
        find_inputs(job(tmp_path, base=base, evaluation={"primary_metric": "f1"}), "run")
    plain = {"name": "texts", "uri": write(tmp_path / "plain", "all", 300, 5, LabelKind.TEXTS), "labels": LOOSE}
    with pytest.raises(EvaluationError, match="texts: texts have no labels to measure on"):
        find_inputs(job(tmp_path, base=base, regression_sets=[plain]), "run")
    assert not (tmp_path / "models").exists()


def test_of_checkpoints_the_one_with_the_lower_alignment_is_better(tmp_path: Path) -> None:
    write(tmp_path / "labels", "pairs", 300, 0, LabelKind.PAIRS)
    asked = job(tmp_path, evaluation={"primary_metric": "alignment"})
    rows = read_rows(asked)
    score = dev_score(asked, rows)
    assert score is not None
    encoder = tiny_encoder()
    anchors, positives = (encoder.encode(rows.labels.dev[name]) for name in ("anchor", "positive"))
    assert score(encoder) == pytest.approx(-((anchors - positives) ** 2).sum(axis=1).mean(), rel=1e-4)


def test_other_rows_to_measure_on_make_another_run(tmp_path: Path, base: str) -> None:
    labels(tmp_path / "labels")
    for name in ("skill", "held"):
        write(tmp_path / name, "test", 40, 11)
        write(tmp_path / name, "train", 60, 12)
    skill, held = ({"name": name, "uri": str(tmp_path / name), "labels": LOOSE} for name in ("skill", "held"))
    asked = job(tmp_path, base=base, regression_sets=[skill], held_out=held)
    keys = [find_inputs(asked, "run").run_key]
    for name in ("skill", "held"):
        write(tmp_path / name, "test", 40, 11)  # the same rows, written anew
        assert find_inputs(asked, "run").run_key == keys[-1]
        write(tmp_path / name, "test", 41, 11)
        keys.append(find_inputs(asked, "run").run_key)
    assert len(set(keys)) == 3


def test_changes_are_judged_together_with_their_recipe() -> None:
    asked = RetrainSettings.model_validate({"recipe": "few_per_class", "training": {"freeze": "layers"}})
    rehearse = TrainingFields(continual=ContinualSettings(rehearsal_weight=1))
    assert asked.training_for("classes") == with_changes(RECIPES["few_per_class"], rehearse)
    again = RetrainSettings.model_validate_json(asked.model_dump_json())
    assert again.training_for("classes") == asked.training_for("classes")
    with pytest.raises(ValidationError, match="freeze is 'layers', but freeze_layers is 0"):
        RetrainSettings.model_validate({"recipe": "scored_pairs", "training": {"freeze": "layers"}})
    by_kind = RetrainSettings.model_validate({"training": {"freeze": "layers"}})
    assert by_kind.training_for("classes").freeze_layers == 3
    with pytest.raises(SettingsError, match="freeze is 'layers', but freeze_layers is 0"):
        by_kind.training_for("scored_pairs")
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        RetrainSettings.model_validate({"training": {"epochs": 5_000}})


def test_the_run_key_of_an_earlier_release_is_the_same() -> None:
    """A registry made before must not be decided on again, whatever settings were added since.

    The key was computed by the release that called regression sets guards, from the same fingerprints and settings.
    """
    rows = RetrainRows(labels=None, sets=(), dev=None, leakage=(), fingerprints=("labels", "labels"))  # type: ignore[arg-type]
    default = RetrainJob(labels_uri="labels", models_uri="models")
    key = _run_key(default, rows, RECIPES["scored_pairs"], None, {})
    assert key == "89ddfaca39b6ac9424415dcfbc239e1d"
    assert _run_key(default, rows, RECIPES["scored_pairs"], None, {"query": "ask: "}) != key
    for changes, is_same in (
        ({"gate": {"robustness": {"action": "refuse"}}}, True),
        ({"training": {"continual": {"rehearsal_weight": 1.0}}}, True),
        ({"training": {"continual": {"rehearsal_weight": 0}}}, False),
        ({"gate": {"robustness": {"action": "report"}}}, False),
        ({"gate": {"robustness": {"sets": []}}}, False),
    ):
        asked = default.model_copy(update={"settings": RetrainSettings.model_validate(changes)})
        changed_key = _run_key(asked, rows, asked.settings.training_for("scored_pairs"), None, {})
        assert (changed_key == key) is is_same, changes


@pytest.mark.parametrize(
    ("sets", "named", "weight"),
    [
        (None, None, 1.0),
        (["number", "typos"], None, 1.0),
        (["typos", "other_domain"], None, 0.0),
        ([], None, 0.0),
        (None, 0, 0.0),
        ([], 2.5, 2.5),
    ],
)
def test_a_retraining_rehearses_what_its_gate_measures(
    sets: list[str] | None, named: float | None, weight: float
) -> None:
    gate = {} if sets is None else {"robustness": {"sets": sets}}
    training = {"epochs": 2} if named is None else {"continual": {"rehearsal_weight": named}}
    settings = RetrainSettings.model_validate({"gate": gate, "training": training})
    for kind in ("scored_pairs", "classes", "pairs"):
        assert settings.training_for(kind).continual.rehearsal_weight == weight
    again = RetrainSettings.model_validate_json(settings.model_dump_json())
    assert again.training_for("classes") == settings.training_for("classes")
    assert settings.training_for("classes").continual.average_weight == 0.8  # that of the recipe


def test_prompts_of_production_enter_the_run_key(tmp_path: Path) -> None:
    """Runs of earlier releases measured encoders with prompts without them: they are decided on again."""
    labels(tmp_path / "labels")
    prompted_encoder().save_pretrained(tmp_path / "base")
    inputs = find_inputs(job(tmp_path, base=str(tmp_path / "base")), "run")
    config = tmp_path / "models/v0001/model/config_sentence_transformers.json"
    assert _prompts(inputs.production_uri) == {"query": "select name from ", "document": "green blue red "}
    config.write_text(json.dumps({"prompts": {"query": ""}}))
    (tmp_path / "base/config_sentence_transformers.json").write_text(json.dumps({"prompts": {}}))
    assert _prompts(inputs.production_uri) == {}
    assert find_inputs(job(tmp_path, base=str(tmp_path / "base")), "run").run_key != inputs.run_key
