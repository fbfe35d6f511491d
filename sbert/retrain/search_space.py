"""The settings that a search tries: a space around the recipe, or the one that the search's settings name."""

from typing import Any

from sbert.retrain.tuning_settings import TuningRange, TuningSettings, Value
from sbert.training.settings import AdapterKind, TrainingSettings

__all__ = ["recipe_values", "search_space", "suggest"]

Space = dict[str, TuningRange | tuple[Value, ...]]


def search_space(settings: TuningSettings, recipe: TrainingSettings) -> Space:
    """Return the values to try for each setting, by dotted name.

    Around a recipe: the learning rate from a quarter of it to four times, half to twice the batch size, the warmup, the
    share of the trained weights, the temperature where the recipe has one, and the frozen layers where it freezes some.
    """
    if settings.space:
        return dict(settings.space)
    rate, batch = recipe.learning_rate, recipe.batch_size
    space: Space = {
        "learning_rate": TuningRange(low=rate / 4, high=min(4 * rate, 10.0), log=True),
        "batch_size": tuple(sorted({max(2, batch // 2), batch, 2 * batch})),
        "warmup_ratio": TuningRange(low=0.0, high=max(0.3, recipe.warmup_ratio)),
    }
    if recipe.adapter.kind is not AdapterKind.PROMPT:
        space["continual.average_weight"] = TuningRange(low=min(0.5, recipe.continual.average_weight), high=1.0)
    if recipe.temperature is not None:
        space["temperature"] = TuningRange(low=recipe.temperature / 2, high=2 * recipe.temperature, log=True)
    if recipe.freeze == "layers":
        space["freeze_layers"] = tuple(sorted({max(1, recipe.freeze_layers - 2), recipe.freeze_layers}))
    return space


def recipe_values(space: Space, recipe: TrainingSettings) -> dict[str, Value]:
    """Return the recipe's own values of the settings in the space, as far as the space holds them."""
    values: dict[str, Value] = {}
    for name, choice in space.items():
        value = _value(recipe, name)
        if isinstance(choice, TuningRange):
            is_inside = isinstance(value, int | float) and choice.low <= value <= choice.high
        else:
            is_inside = value in choice
        if is_inside:
            values[name] = value
    return values


def suggest(trial: Any, space: Space, recipe: TrainingSettings) -> dict[str, Value]:
    """Return the values of an Optuna trial. A setting that is a whole number in the recipe stays one."""
    values: dict[str, Value] = {}
    for name, choice in space.items():
        if not isinstance(choice, TuningRange):
            values[name] = trial.suggest_categorical(name, list(choice))
        elif isinstance(_value(recipe, name), int):
            values[name] = trial.suggest_int(name, round(choice.low), round(choice.high), log=choice.log)
        else:
            values[name] = trial.suggest_float(name, choice.low, choice.high, log=choice.log)
    return values


def _value(recipe: TrainingSettings, name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value
