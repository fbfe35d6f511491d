"""Every number among the settings of labels, training, evaluation, gate and suggestions has bounds that hold."""

import math
import typing
from types import NoneType
from typing import Any

import annotated_types
import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sbert.retrain.settings import RetrainJob
from sbert.suggest.settings import SuggestSettings

FREE = {"score_min", "score_max"}
"""Scores have the range of the labels; the settings only have to be finite."""


def models_within(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_within(part)]


def settings_classes(*roots: type[BaseModel]) -> list[type[BaseModel]]:
    """Return these classes of settings and all that are nested in them."""
    classes: dict[type[BaseModel], None] = {}
    waiting = list(roots)
    while waiting:
        model = waiting.pop()
        if model not in classes:
            classes[model] = None
            waiting += [inner for field in model.model_fields.values() for inner in models_within(field.annotation)]
    return list(classes)


CLASSES = settings_classes(RetrainJob, SuggestSettings)
NUMBERS = [
    (model, name, field)
    for model in CLASSES
    for name, field in model.model_fields.items()
    if {int, float} & {field.annotation, *typing.get_args(field.annotation)} and name not in FREE
]


def test_the_settings_that_are_checked_include_those_of_every_kind() -> None:
    names = {model.__name__ for model in CLASSES}
    assert {"LabelSettings", "EvaluationSettings", "GateSettings", "TrainingFields", "NegativesSettings"} <= names
    assert len(NUMBERS) > 50


@pytest.mark.parametrize(("model", "name", "field"), NUMBERS, ids=lambda value: str(value)[:40])
def test_a_number_has_a_lower_and_an_upper_bound(model: type[BaseModel], name: str, field: FieldInfo) -> None:
    lower = [item for item in field.metadata if isinstance(item, annotated_types.Ge | annotated_types.Gt)]
    upper = [item for item in field.metadata if isinstance(item, annotated_types.Le | annotated_types.Lt)]
    assert len(lower) == 1
    assert len(upper) == 1
    least = lower[0].ge if isinstance(lower[0], annotated_types.Ge) else lower[0].gt
    most = upper[0].le if isinstance(upper[0], annotated_types.Le) else upper[0].lt
    for wrong in (least - 1, most + 1, math.nan, math.inf):  # type: ignore[operator]
        with pytest.raises(ValidationError, match=name):
            model.model_validate({name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"evaluation": {"recall_at": [0]}},
        {"evaluation": {"recall_at": [10, -1]}},
        {"evaluation": {"min_test_rows": 100, "max_test_rows": 50}},
        {"evaluation": {"slice_columns": [""]}},
        {"labels": {"score_max": math.inf}},
        {"labels": {"csv_columns": ["text", "text"]}},
        {"labels": {"split_column": ""}},
        {"labels": {"columns": {"label": ""}}},
        {"gate": {"tolerances": {"sts": -1}}, "regression_sets": [{"name": "sts", "uri": "x"}]},
        {"training": {"matryoshka_dims": [0]}},
        {"training": {"teacher": ""}},
        {"training": {"adapter": {"target_modules": [""]}}},
    ],
)
def test_values_in_lists_have_bounds_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetrainJob.model_validate({"labels_uri": "l", "models_uri": "m", "settings": wrong})


def test_the_nested_type_of_a_setting_that_may_be_empty_is_looked_at() -> None:
    optional = [name for _, name, field in NUMBERS if NoneType in typing.get_args(field.annotation)]
    assert {"temperature", "max_steps", "dropout", "max_score"} <= set(optional)
