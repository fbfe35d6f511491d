"""The rows of a retraining: which decide, which are regression sets, and that they do not change during a run."""

from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from pydantic import BaseModel, Field, ValidationError

from sbert.errors import LabelError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels
from sbert.labels.settings import LabelSettings
from sbert.retrain.judge import dev_score, judge_candidate
from sbert.retrain.label_rows import deciding_labels, evaluation_sets, read_rows, unchanged_rows
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.settings import LabelledSet, RetrainJob, RetrainSettings
from sbert.suggest.settings import SuggestSettings
from sbert.training.recipes import RECIPES
from sbert.training.result import StopReason, TrainingResult
from sbert.training.settings import TrainingSettings
from tests.support.tiny_models import save_tiny, tiny_encoder
from tests.support.toy_training import toy_rows

LOOSE = LabelSettings(near_duplicate_similarity=1.0, test_share=0.3, dev_share=0.3)


def write(path: Path, kind: LabelKind, num_rows: int = 200, seed: int = 0) -> str:
    toy_rows(kind, num_rows, seed).write_ndjson(path)
    return str(path)


def job(labels_uri: str, **settings: object) -> RetrainJob:
    validated = RetrainSettings.model_validate({"labels": LOOSE} | settings)
    return RetrainJob(labels_uri=labels_uri, models_uri="models", settings=validated)


def test_plain_texts_are_decided_by_a_labelled_set(tmp_path: Path) -> None:
    sts = LabelledSet(name="sts", uri=write(tmp_path / "sts.jsonl", LabelKind.SCORED_PAIRS), labels=LOOSE)
    texts = write(tmp_path / "texts.jsonl", LabelKind.TEXTS)
    asked = job(texts, held_out=sts)
    rows = read_rows(asked)
    [deciding] = rows.sets
    assert deciding.name == "held-out"
    assert deciding.kind == LabelKind.SCORED_PAIRS
    score = dev_score(asked, rows)
    assert score is not None
    assert -1 <= score(tiny_encoder()) <= 1


def test_without_dev_rows_the_last_checkpoint_is_the_candidate(tmp_path: Path) -> None:
    few = LOOSE.model_copy(update={"dev_share": 0.0})
    uri = write(tmp_path / "few.jsonl", LabelKind.CLASSES)
    asked = job(uri, labels=few)
    assert dev_score(asked, read_rows(asked)) is None


def with_rehearsal(training: TrainingSettings, weight: float) -> TrainingSettings:
    continual = training.continual.model_copy(update={"rehearsal_weight": weight})
    return training.model_copy(update={"continual": continual})


def test_a_kind_of_labels_has_its_recipe_with_rehearsal() -> None:
    settings = RetrainSettings()
    assert settings.training_for(LabelKind.SCORED_PAIRS) == with_rehearsal(RECIPES["scored_pairs"], 1.0)
    assert settings.training_for(LabelKind.NLI) == with_rehearsal(TrainingSettings(), 1.0)
    few = RetrainSettings(recipe="few_per_class").training_for(LabelKind.CLASSES)
    assert few == with_rehearsal(RECIPES["few_per_class"], 1.0)
    with pytest.raises(ValidationError, match="unknown recipe 'few'; choose one of scored_pairs, "):
        RetrainSettings(recipe="few")


def test_given_fields_change_the_recipe_and_nothing_else() -> None:
    changes = {"epochs": 9, "continual": {"replay_share": 0.1}}
    asked = RetrainSettings.model_validate({"recipe": "continual", "training": changes})
    recipe = RECIPES["continual"]
    kept = recipe.continual.model_copy(update={"replay_share": 0.1})
    expected = with_rehearsal(recipe.model_copy(update={"epochs": 9.0, "continual": kept}), 1.0)
    assert asked.training_for(LabelKind.CLASSES) == expected
    again = RetrainSettings.model_validate_json(asked.model_dump_json())  # as a flow's parameters travel
    assert again.training_for(LabelKind.CLASSES) == expected
    assert asked.model_dump()["training"] == {"epochs": 9.0, "continual": {"replay_share": 0.1}}


def test_a_field_set_to_its_default_changes_the_recipe() -> None:
    asked = RetrainSettings.model_validate({"recipe": "few_per_class", "training": {"freeze": "nothing"}})
    assert asked.training_for(LabelKind.CLASSES).freeze == TrainingSettings().freeze


def test_regression_sets_are_measured_beside_the_deciding_rows(tmp_path: Path) -> None:
    skill = LabelledSet(name="topics", uri=write(tmp_path / "topics.jsonl", LabelKind.CLASSES), labels=LOOSE)
    pairs = write(tmp_path / "pairs.jsonl", LabelKind.PAIRS)
    asked = job(pairs, regression_sets=[skill], evaluation={"slice_columns": ["object"]})
    sets = evaluation_sets(asked, load_labels(pairs, LOOSE))
    assert [(item.name, item.kind) for item in sets] == [
        ("held-out", LabelKind.PAIRS),
        ("topics", LabelKind.CLASSES),
    ]
    assert "object" in sets[0].rows.columns


def test_labels_keep_the_columns_that_are_sliced_by(tmp_path: Path) -> None:
    rows = toy_rows(LabelKind.SCORED_PAIRS, 200).with_columns(pl.Series("lang", ["de", "en", "fr", "de"] * 50))
    rows.write_ndjson(tmp_path / "labels.jsonl")
    measured = {"slice_columns": ["lang"], "min_slice_rows": 2, "num_resamples": 100, "bias": False, "speed_texts": 0}
    asked = job(str(tmp_path / "labels.jsonl"), evaluation=measured)
    asked = asked.model_copy(update={"models_uri": str(tmp_path / "models"), "base": save_tiny(tmp_path)})
    inputs = find_inputs(asked, "run")
    result = TrainingResult(inputs.production_uri, StopReason.COMPLETED, 0.1, 0.2, 1, 1, 1, 1, 1, 1.0, 1.0, 1.0)
    slices = judge_candidate(asked, inputs, result).after.sets["held-out"].slices
    assert {"lang: de", "lang: en", "lang: fr"} < set(slices)
    (tmp_path / "sts").mkdir()
    rows.write_ndjson(tmp_path / "sts/test.jsonl")
    sts = LabelledSet(name="sts", uri=str(tmp_path / "sts"), labels=LOOSE)
    texts = write(tmp_path / "texts.jsonl", LabelKind.TEXTS)
    other = job(texts, held_out=sts, evaluation=measured)
    [deciding] = evaluation_sets(other, deciding_labels(other, load_labels(texts, LOOSE)))
    assert "lang" in deciding.rows.columns
    assert deciding.rows.height == 200  # test rows only


def test_labels_that_change_during_a_run_are_refused(tmp_path: Path) -> None:
    uri = write(tmp_path / "labels.jsonl", LabelKind.PAIRS)
    asked = job(uri)
    rows = read_rows(asked)
    assert unchanged_rows(asked, rows.fingerprints).labels.fingerprint == rows.labels.fingerprint
    with pytest.raises(LabelError, match="changed during the run"):
        unchanged_rows(asked, ("another fingerprint", *rows.fingerprints[1:]))


def test_rows_are_read_once_in_a_process_and_anew_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counting(uri: str, settings: LabelSettings | None = None, *, to_train: bool = True) -> LabelSet:
        reads.append(Path(uri).stem)
        return load_labels(uri, settings, to_train=to_train)

    monkeypatch.setattr("sbert.retrain.label_rows.load_labels", counting)
    skill = LabelledSet(name="topics", uri=write(tmp_path / "topics.jsonl", LabelKind.CLASSES), labels=LOOSE)
    asked = job(write(tmp_path / "pairs.jsonl", LabelKind.PAIRS), regression_sets=[skill])
    rows = read_rows(asked)
    for _ in ("train", "judge"):
        unchanged_rows(asked, rows.fingerprints)
    assert sorted(reads) == ["pairs", "topics"]
    read_rows(asked)
    assert len(reads) == 4


def test_settings_that_contradict_each_other_are_refused() -> None:
    sts = {"name": "sts", "uri": "x"}
    with pytest.raises(ValidationError, match=r"names \['sts'\] are taken"):
        RetrainSettings.model_validate({"regression_sets": [sts, sts]})
    with pytest.raises(ValidationError, match=r"gate.tolerances names \['stss'\], but the regression sets are sts"):
        RetrainSettings.model_validate({"regression_sets": [sts], "gate": {"tolerances": {"stss": 0.1}}})
    with pytest.raises(ValidationError, match="both given"):
        RetrainSettings.model_validate({"regression_sets": [sts], "guards": [sts]})


def test_the_old_name_of_regression_sets_is_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    old = RetrainSettings.model_validate_json('{"guards": [{"name": "sts", "uri": "x"}]}')
    assert [item.name for item in old.regression_sets] == ["sts"]
    assert "the setting guards is now called regression_sets" in caplog.text


def undescribed(model: type[BaseModel]) -> list[str]:
    missing = []
    for name, field in model.model_fields.items():
        if not field.description:
            missing.append(f"{model.__name__}.{name}")
        for nested in models_within(field.annotation):
            missing += undescribed(nested)
    return missing


def models_within(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation names, within ``X | None`` and ``tuple[X, ...]`` too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_within(part)]


class Undescribed(BaseModel):
    inner: int


class Outer(BaseModel):
    plain: Undescribed = Field(description="x")
    maybe: Undescribed | None = Field(description="x")
    several: tuple[Undescribed, ...] = Field(description="x")


def test_every_setting_is_described() -> None:
    assert undescribed(Outer) == ["Undescribed.inner"] * 3
    assert [*undescribed(RetrainJob), *undescribed(LabelledSet), *undescribed(SuggestSettings)] == []
