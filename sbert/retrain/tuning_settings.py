"""Settings of a search: how many settings are tried, for how long, and between which values."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sbert.errors import SettingsError
from sbert.settings import explain
from sbert.training.settings import TrainingFields

__all__ = ["FIXED", "TuningRange", "TuningSettings", "changes_of"]

Value = bool | int | float | str
FIXED = frozenset({"epochs", "max_steps", "evaluations_per_epoch", "early_stopping_patience", "trackers", "seed"})
"""Training settings that a search does not change: trials are compared after the same share of the training."""


class TuningRange(BaseModel):
    """Numbers between two bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float = Field(default=0.0, ge=0, le=1e9, description="Smallest value (units of the setting).")
    high: float = Field(default=1.0, ge=0, le=1e9, description="Largest value (units of the setting).")
    log: bool = Field(default=False, description="Try values by their logarithm: as many from 1e-5 to 1e-4 as to 1e-3.")

    @model_validator(mode="after")
    def _check(self) -> "TuningRange":
        if self.low >= self.high or (self.log and self.low == 0):
            raise SettingsError(
                f"a range from {self.low:g} to {self.high:g}{' with log' if self.log else ''}: low must be below high, and "
                "above 0 with log"
            )
        return self


class TuningSettings(BaseModel):
    """A search of training settings on dev rows, of which the gate judges the best."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(
        default=20, ge=1, le=1_000, description="Settings that are tried; the first is the recipe itself."
    )
    max_minutes: float = Field(
        default=480.0,
        gt=0,
        le=100_000,
        description="Time limit of the search, over killed runs too; the first trial always ends (minutes).",
    )
    prune: bool = Field(
        default=True,
        description="Stop a trial early whose dev metric is below the median of the others after as many evaluations.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the choice of settings.")
    space: dict[str, TuningRange | tuple[Value, ...]] = Field(
        default_factory=dict,
        max_length=50,
        description="Training settings that are tried, with a range or values; empty for a space around the recipe. "
        'Example: {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": true}, "batch_size": [16, 32]}.',
    )

    @field_validator("space")
    @classmethod
    def _is_of_training(cls, space: dict[str, TuningRange | tuple[Value, ...]]) -> dict[str, Any]:
        for name, choice in space.items():
            if name.split(".")[0] in FIXED:
                raise SettingsError(
                    f"search.space names {name}, but all trials have the same {', '.join(sorted(FIXED))}"
                )
            values = (choice.low, choice.high) if isinstance(choice, TuningRange) else choice
            if not values:
                raise SettingsError(f"search.space names {name} with no value: give a range, or a list of values")
            for value in values:
                changes_of({name: value})
        return space


def changes_of(values: dict[str, Value]) -> TrainingFields:
    """Return values by dotted name (``continual.average_weight``) as changes to a recipe.

    Raises:
        SettingsError: a name is no setting of training, or a value is out of its bounds.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        place = nested
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    try:
        return TrainingFields.model_validate(nested)
    except ValidationError as error:
        raise SettingsError(f"search.space: {explain(error, TrainingFields)}") from error
