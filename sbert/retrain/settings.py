"""What a person asks for: one retraining, as settings that are also the flow's parameters and the record of a run."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from sbert.errors import SettingsError
from sbert.evaluation.frozen_sets import HELD_OUT
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.settings import LabelSettings
from sbert.retrain.gate import GateSettings
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import TrainingFields, TrainingSettings

__all__ = ["LabelledSet", "RetrainJob", "RetrainSettings"]


class LabelledSet(BaseModel):
    """Labels that encoders are measured on and never trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[\w.@-]+$", description="What reports call the set.")
    uri: str = Field(min_length=1, description="File, folder or glob of labels, local or s3://.")
    labels: LabelSettings = Field(default_factory=LabelSettings, description="How they are read and split.")
    split: Literal["test", "dev"] = Field(default="test", description="Which of its rows are measured on.")


class RetrainSettings(BaseModel):
    """Everything about a retraining beyond where the labels and the models are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelSettings = Field(default_factory=LabelSettings, description="How labels are read and split.")
    recipe: str | None = Field(
        default=None,
        description=f"How the encoder learns: {', '.join(RECIPES)}; empty for the recipe of the labels' kind.",
    )
    training: TrainingFields | None = Field(
        default=None, description="Changes of the recipe; fields that are not named, nested ones too, stay its own."
    )
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="What is measured.")
    gate: GateSettings = Field(default_factory=GateSettings, description="What a candidate has to prove.")
    guards: tuple[LabelledSet, ...] = Field(
        default=(), description="Skills that must not be lost: labelled sets whose metric may not drop."
    )
    held_out: LabelledSet | None = Field(
        default=None,
        description="Labelled set that decides, for labels that cannot (plain texts); else their test rows.",
    )

    keep_refused: int = Field(
        default=3,
        ge=0,
        description="Refused versions that keep their weights, newest first; records and reports of all stay (versions).",
    )

    @field_validator("recipe")
    @classmethod
    def _is_known(cls, recipe: str | None) -> str | None:
        if recipe is not None and recipe not in RECIPES:
            raise SettingsError(f"no recipe {recipe!r}, there are {', '.join(RECIPES)}")
        return recipe

    @field_serializer("training")
    def _only_changes(self, training: TrainingFields | None) -> dict[str, Any] | None:
        """Leave out what was not named, so that settings written and read again mean the same."""
        return None if training is None else training.model_dump(mode="json", exclude_unset=True)

    @model_validator(mode="after")
    def _check(self) -> "RetrainSettings":
        names = [guard.name for guard in self.guards]
        twice = sorted({name for name in names if names.count(name) > 1 or name == HELD_OUT})
        if twice:
            raise SettingsError(f"guards: the names {twice} are taken: give each set a name of its own")
        unknown = sorted(set(self.gate.tolerances) - set(names))
        if unknown:
            raise SettingsError(f"gate.tolerances names {unknown}, the guards are {', '.join(names) or 'none'}")
        if self.recipe is not None:
            self.training_for("")  # whether the two fit together is known now
        return self

    def training_for(self, kind: str) -> TrainingSettings:
        """Give how the encoder learns from a kind of labels: the recipe, with the changes that were asked for.

        Raises:
            SettingsError: when the changes do not fit the recipe.
        """
        recipe = RECIPES.get(self.recipe or kind, TrainingSettings())
        return recipe if self.training is None else with_changes(recipe, self.training)


class RetrainJob(BaseModel):
    """One retraining: learn from the labels, and promote what is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    settings: RetrainSettings = Field(default_factory=RetrainSettings, description="Everything else.")
