"""Settings of training: objective, optimizer, trained weights, hard negatives, and how old skills are kept."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError

__all__ = [
    "REHEARSAL_WEIGHT",
    "AdapterKind",
    "AdapterSettings",
    "ContinualSettings",
    "NegativesSettings",
    "Objective",
    "TrackerKind",
    "TrainingFields",
    "TrainingSettings",
]


class Objective(StrEnum):
    """The objective that is minimised. Formulas and sources are in `sbert.training.losses`."""

    SOFTMAX = "softmax"
    COSINE = "cosine"
    TRIPLET = "triplet"
    COSENT = "cosent"
    ANGLE = "angle"
    RANKING = "ranking"
    """Multiple negatives ranking."""
    BATCH_HARD_TRIPLET = "batch_hard_triplet"
    SUPERVISED_CONTRASTIVE = "supervised_contrastive"
    CROSS_ENTROPY = "cross_entropy"
    """A classifier head on the vector, trained end to end."""
    SIMCSE = "simcse"
    TSDAE = "tsdae"
    DISTILLATION = "distillation"


class AdapterKind(StrEnum):
    """Methods of parameter-efficient training."""

    NONE = "none"
    LORA = "lora"
    ADALORA = "adalora"
    PREFIX = "prefix"
    PROMPT = "prompt"


class TrackerKind(StrEnum):
    """Services that curves are sent to besides TensorBoard."""

    WANDB = "wandb"
    MLFLOW = "mlflow"


class AdapterSettings(BaseModel):
    """Parameter-efficient training."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: AdapterKind = Field(default=AdapterKind.NONE, description="Adapter that is trained instead of all weights.")
    rank: int = Field(default=16, ge=1, le=512, description="Rank of LoRA; average rank that AdaLoRA ends with.")
    alpha: float = Field(
        default=32.0, gt=0, le=1e6, description="LoRA's scale: updates are multiplied by alpha / rank."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before LoRA's first matrix (0 to 1).")
    target_modules: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        max_length=1_000,
        description="Endings of the names of adapted linear layers; empty: all of the transformer's.",
    )
    num_virtual_tokens: int = Field(
        default=16, ge=1, le=512, description="Virtual tokens of prefix and prompt tuning (tokens)."
    )


class NegativesSettings(BaseModel):
    """Hard negatives, mined with the base encoder before training."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    per_anchor: int = Field(default=0, ge=0, le=50, description="Negatives mined for each anchor; 0 for none.")
    table_uri: str | None = Field(
        default=None,
        min_length=1,
        description="Published table to take texts from, at its newest version; empty for the labels' own positives.",
    )
    text_column: str = Field(default="text", min_length=1, description="Column of the table that keeps the texts.")
    skip_nearest: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Nearest texts that are skipped, because they may be unlabelled positives.",
    )
    search_depth: int = Field(default=50, ge=1, le=10_000, description="Nearest texts that negatives are taken from.")
    max_score: float | None = Field(
        default=None, ge=-1, le=1, description="Highest cosine with the anchor of a negative; empty for no limit."
    )
    relative_margin: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="A negative's cosine is at most (1 - margin) x that of anchor and positive (0 to 1).",
    )


REHEARSAL_WEIGHT = 1.0
"""Weight of made rows in a retraining whose settings do not name it."""


class ContinualSettings(BaseModel):
    """Settings by which training on new labels keeps old skills."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    replay_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the train rows that is drawn from labels of earlier runs (0 to 1).",
    )
    distill_weight: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Weight of the distance to the base encoder's vectors, added to the objective; 0 for none.",
    )
    rehearsal_weight: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="Weight of made rows by which negations and numbers stay as far apart as they were; 0 for none; "
        f"empty: {REHEARSAL_WEIGHT:g} in a retraining whose gate measures negations or numbers, else 0.",
    )
    average_weight: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the trained weights in the final ones, the rest is the base's (WiSE-FT); 1 for no averaging.",
    )


class TrainingFields(BaseModel):
    """The settings of a training, not yet checked together: changes to a recipe name only some of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Objective | None = Field(
        default=None, description="Objective that is minimised; empty for the default of the kind of labels."
    )
    temperature: float | None = Field(
        default=None, gt=0, le=1e6, description="Temperature of contrastive objectives; empty for the objective's own."
    )
    margin: float = Field(default=1.0, gt=0, le=1e6, description="Margin of triplet objectives (distance).")
    symmetric: bool = Field(
        default=True,
        description="Ranking: average with the loss of positives that look for their anchors.",
    )
    teacher: str | None = Field(
        default=None,
        min_length=1,
        description="Distillation: encoder to learn from: folder, URI or hub id; empty for the base itself.",
    )
    matryoshka_dims: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        default=(),
        max_length=100,
        description="Dims at which the objective is also applied to shortened vectors; empty for none.",
    )
    deletion_ratio: float = Field(default=0.6, gt=0, lt=1, description="TSDAE: share of words deleted (0 to 1).")

    epochs: float = Field(default=4.0, gt=0, le=1_000, description="Passes over the train rows.")
    max_steps: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="Steps after which training stops; empty for all epochs."
    )
    batch_size: int = Field(default=32, ge=2, le=65_536, description="Rows of one step, over all processes (rows).")
    mini_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Gradient caching: texts whose activations are in memory at once; empty for no caching (texts).",
    )
    classes_per_batch: int = Field(
        default=16, ge=2, le=65_536, description="Batch-hard and supervised contrastive: classes in a batch."
    )
    class_names: bool = Field(
        default=False,
        description="Classes: use the name of each class, with spaces for underscores, as one more text of the class.",
    )
    gradient_accumulation: int = Field(default=1, ge=1, le=1_024, description="Batches of one step.")

    learning_rate: float = Field(default=5e-5, gt=0, le=10, description="Highest learning rate.")
    head_learning_rate: float = Field(
        default=1e-3, gt=0, le=10, description="Learning rate of heads that start random."
    )
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="Optimizer.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(default=0.01, ge=0, le=10, description="Weight decay, on all but biases and norms.")
    warmup_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises (0 to 1)."
    )
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"] = Field(
        default="linear", description="Schedule by which the learning rate falls after warmup."
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1e6, description="Gradients are clipped at this norm; 0 for no clipping."
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in the transformer; empty for the model's own (0 to 1)."
    )
    freeze: Literal["nothing", "embeddings", "layers", "all_but_head"] = Field(
        default="nothing",
        description="Weights that are not trained; 'layers': the embeddings and the first freeze_layers layers.",
    )
    freeze_layers: int = Field(
        default=0, ge=0, le=1_000, description="Layers that are not trained, from the first (layers)."
    )
    adapter: AdapterSettings = Field(default_factory=AdapterSettings, description="Parameter-efficient training.")
    negatives: NegativesSettings = Field(default_factory=NegativesSettings, description="Hard negatives.")
    continual: ContinualSettings = Field(
        default_factory=ContinualSettings, description="Settings by which old skills are kept."
    )

    bf16: bool | None = Field(
        default=None, description="Compute the transformer in bfloat16; empty: only where the device is faster in it."
    )
    evaluations_per_epoch: int = Field(
        default=1, ge=1, le=1_000, description="Dev evaluations and checkpoints in each epoch."
    )
    early_stopping_patience: int | None = Field(
        default=3,
        ge=1,
        le=1_000_000,
        description="Evaluations without improvement before stopping; empty to never stop early.",
    )
    min_improvement: float = Field(
        default=0.0, ge=0, le=10, description="Least gain of the dev metric that counts (units of the metric)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the order of rows, dropout and new weights.")
    trackers: tuple[TrackerKind, ...] = Field(
        default=(),
        description="Services that curves are sent to besides TensorBoard; configured by their own environment variables.",
    )


class TrainingSettings(TrainingFields):
    """The complete settings of a training. With the fingerprints of labels and base they decide the result."""

    @model_validator(mode="after")
    def _check(self) -> "TrainingSettings":
        if self.freeze == "layers" and self.freeze_layers == 0:
            raise SettingsError("freeze is 'layers', but freeze_layers is 0: set freeze_layers, or freeze 'embeddings'")
        if self.adapter.kind is AdapterKind.PROMPT and self.continual.average_weight < 1:
            raise SettingsError(
                "adapter prompt trains tokens that the base encoder does not have, so they cannot be averaged with it: set "
                f"continual.average_weight to 1 (it is {self.continual.average_weight:g}), or use adapter lora"
            )
        if self.negatives.table_uri is not None and self.negatives.per_anchor == 0:
            raise SettingsError(
                "negatives.table_uri is named, but negatives.per_anchor is 0: set the number of negatives for each anchor"
            )
        if self.objective is Objective.TSDAE and self.mini_batch_size is not None:
            raise SettingsError("gradient caching (mini_batch_size) has nothing to cache for TSDAE: leave it empty")
        if self.objective is Objective.TSDAE and self.continual.distill_weight:
            raise SettingsError("TSDAE encodes damaged texts, which have no teacher: set continual.distill_weight to 0")
        return self
