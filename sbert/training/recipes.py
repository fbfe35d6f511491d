"""Recipes: settings to begin with, by name. `tests/benchmarks/README.md` says which are measured, and what they reach.

train_encoder(base, labels, RECIPES["scored_pairs"], "output")
train_encoder(base, labels, with_changes(RECIPES["scored_pairs"], TrainingSettings(epochs=1)), "output")
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from sbert.errors import SettingsError
from sbert.settings import explain
from sbert.training.settings import (
    AdapterKind,
    AdapterSettings,
    ContinualSettings,
    Objective,
    TrainingFields,
    TrainingSettings,
)

__all__ = ["RECIPES", "with_changes"]

RECIPES: dict[str, TrainingSettings] = {
    # Neither dropout nor training the embeddings changes the score, and each costs a quarter of the time.
    "scored_pairs": TrainingSettings(
        objective=Objective.COSENT, epochs=3, batch_size=32, learning_rate=5e-5, dropout=0.0, freeze="embeddings"
    ),
    "scored_pairs_lora": TrainingSettings(
        objective=Objective.COSENT,
        epochs=3,
        batch_size=32,
        learning_rate=5e-4,
        dropout=0.0,
        adapter=AdapterSettings(kind=AdapterKind.LORA, rank=8, alpha=16),
    ),
    # For a few labels a class: all of them train, none is left for dev, and the last checkpoint is taken. Every class is in
    # every batch of up to 77 classes. Half of the layers are trained, and averaged with the base: anything more overfits.
    "few_per_class": TrainingSettings(
        objective=Objective.SUPERVISED_CONTRASTIVE,
        epochs=10,
        batch_size=231,
        classes_per_batch=77,
        class_names=True,
        learning_rate=2e-4,
        temperature=0.07,
        freeze="layers",
        freeze_layers=3,
        continual=ContinualSettings(average_weight=0.6),
    ),
    # With many labels a class, a head that is trained end to end teaches the vectors more than contrasts between texts.
    "classes": TrainingSettings(
        objective=Objective.CROSS_ENTROPY,
        epochs=8,
        batch_size=64,
        learning_rate=2e-4,
        freeze="layers",
        freeze_layers=3,
        continual=ContinualSettings(average_weight=0.8),
    ),
    "texts": TrainingSettings(
        objective=Objective.SIMCSE, epochs=1, batch_size=64, learning_rate=1e-5, temperature=0.05
    ),
    "texts_tsdae": TrainingSettings(objective=Objective.TSDAE, epochs=2, batch_size=16, learning_rate=3e-5),
    "continual": TrainingSettings(
        epochs=10,
        batch_size=64,
        learning_rate=5e-5,
        continual=ContinualSettings(replay_share=0.3, distill_weight=10.0, average_weight=0.5),
    ),
}


def with_changes(recipe: TrainingSettings, changes: TrainingFields) -> TrainingSettings:
    """Return the recipe with the fields that `changes` names, nested fields too. Other fields keep the recipe's values.

    Raises:
        SettingsError: when the two do not fit together.
    """
    try:
        return TrainingSettings.model_validate(_overlaid(recipe, changes))
    except ValidationError as error:
        raise SettingsError(explain(error, TrainingSettings)) from error


def _overlaid(below: BaseModel, above: BaseModel) -> dict[str, Any]:
    values = {name: getattr(below, name) for name in type(below).model_fields}
    for name in above.model_fields_set:
        ours, theirs = values[name], getattr(above, name)
        both = isinstance(ours, BaseModel) and isinstance(theirs, BaseModel)
        values[name] = _overlaid(ours, theirs) if both else theirs
    return values
