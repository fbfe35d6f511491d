"""The settings of a retraining; they are also the parameters of the flow and part of the record of a run."""

import logging
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from sbert.errors import SettingsError
from sbert.evaluation.frozen_sets import HELD_OUT
from sbert.evaluation.robustness_settings import RobustnessKind
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.settings import LabelSettings
from sbert.retrain.gate_settings import GateSettings
from sbert.retrain.tuning_settings import TuningSettings
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import REHEARSAL_WEIGHT, TrainingFields, TrainingSettings

__all__ = ["LabelledSet", "RetrainJob", "RetrainSettings"]

log = logging.getLogger(__name__)

REHEARSED = frozenset({RobustnessKind.NEGATION, RobustnessKind.NUMBER})
"""Robustness sets whose skill `sbert.training.rehearsal` keeps."""


class LabelledSet(BaseModel):
    """Labels that encoders are measured on and never trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, pattern=r"^[\w.@-]+$", description="Name of the set in reports.")
    uri: str = Field(min_length=1, description="File, folder or glob of labels, local or s3://.")
    labels: LabelSettings = Field(
        default_factory=LabelSettings, description="Settings for reading and splitting these labels."
    )
    split: Literal["test", "dev"] = Field(default="test", description="Rows of the set that are measured on.")


class RetrainSettings(BaseModel):
    """All settings of a retraining except the locations of labels and models."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: LabelSettings = Field(
        default_factory=LabelSettings, description="Settings for reading and splitting labels."
    )
    recipe: str | None = Field(
        default=None,
        description=f"How the encoder learns: {', '.join(RECIPES)}; empty for the recipe of the labels' kind.",
    )
    training: TrainingFields | None = Field(
        default=None,
        description="Changes to the recipe; fields that are not named keep its values, nested fields too.",
    )
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="Settings of the evaluation."
    )
    gate: GateSettings = Field(default_factory=GateSettings, description="Conditions that a candidate must meet.")
    regression_sets: tuple[LabelledSet, ...] = Field(
        default=(), max_length=100, description="Skills that must not be lost: labelled sets whose metric may not drop."
    )
    held_out: LabelledSet | None = Field(
        default=None,
        description="Labelled set that decides; needed for plain texts. Empty: the test rows of the labels decide.",
    )

    search: TuningSettings | None = Field(
        default=None, description="Try several training settings on dev rows and judge the best; empty for no search."
    )

    keep_refused: int = Field(
        default=3,
        ge=0,
        le=10_000,
        description="Refused versions that keep their weights, newest first; records and reports of all stay (versions).",
    )
    keep_checkpoints_days: float = Field(
        default=14.0,
        ge=0,
        le=3_650,
        description="Days after which checkpoints of a killed run are removed; sooner when its labels changed (days).",
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_guards(cls, values: Any) -> Any:
        """Read `guards`, the name of `regression_sets` in earlier releases."""
        if not isinstance(values, dict) or "guards" not in values:
            return values
        if "regression_sets" in values:
            raise SettingsError("regression_sets and its old name guards are both given: remove guards")
        log.warning("the setting guards is now called regression_sets; the old name will be removed")
        return {"regression_sets" if name == "guards" else name: value for name, value in values.items()}

    @field_validator("recipe")
    @classmethod
    def _is_known(cls, recipe: str | None) -> str | None:
        if recipe is not None and recipe not in RECIPES:
            raise SettingsError(f"unknown recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
        return recipe

    @field_serializer("training")
    def _only_changes(self, training: TrainingFields | None) -> dict[str, Any] | None:
        """Leave out fields that were not named, so that settings that are written and read again mean the same."""
        return None if training is None else training.model_dump(mode="json", exclude_unset=True)

    @model_validator(mode="after")
    def _check(self) -> "RetrainSettings":
        names = [item.name for item in self.regression_sets]
        twice = sorted({name for name in names if names.count(name) > 1 or name == HELD_OUT})
        if twice:
            raise SettingsError(f"regression_sets: the names {twice} are taken: give each set a name of its own")
        unknown = sorted(set(self.gate.tolerances) - set(names))
        if unknown:
            raise SettingsError(
                f"gate.tolerances names {unknown}, but the regression sets are {', '.join(names) or 'none'}"
            )
        if self.recipe is not None:
            self.training_for("")  # changes that do not fit a named recipe are refused now
        return self

    def training_for(self, kind: str) -> TrainingSettings:
        """Return the training settings for a kind of labels: its recipe with the changes of `training`, and rehearsal.

        Raises:
            SettingsError: when the changes do not fit the recipe.
        """
        recipe = RECIPES.get(self.recipe or kind, TrainingSettings())
        training = recipe if self.training is None else with_changes(recipe, self.training)
        if training.continual.rehearsal_weight is not None:
            return training
        continual = training.continual.model_copy(update={"rehearsal_weight": self.usual_rehearsal_weight})
        return training.model_copy(update={"continual": continual})

    @property
    def usual_rehearsal_weight(self) -> float:
        """Return the `rehearsal_weight` where neither recipe nor changes name one: what the gate measures is rehearsed."""
        return REHEARSAL_WEIGHT if REHEARSED.intersection(self.gate.robustness.sets) else 0.0


class RetrainJob(BaseModel):
    """One retraining: labels, registry, and how to train and judge."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels_uri: str = Field(min_length=1, description="File, folder or glob of labels, local or s3://.")
    models_uri: str = Field(min_length=1, description="Folder of the model registry, local or s3://.")
    base: str | None = Field(
        default=None,
        description="Model to begin with: folder, s3:// URI or hub id; empty for production, or the packaged default.",
    )
    force: bool = Field(
        default=False,
        description="Train again, on all train rows, although these labels and settings were decided on before.",
    )
    settings: RetrainSettings = Field(default_factory=RetrainSettings, description="All other settings.")
