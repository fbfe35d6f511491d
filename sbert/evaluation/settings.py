"""Settings of an evaluation."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError

__all__ = ["EvaluationSettings", "Perturbation"]


class Perturbation(StrEnum):
    """A way in which the texts of users differ from the texts of a test set."""

    TYPOS = "typos"
    """One in twenty letters is swapped with its neighbour, dropped or doubled."""
    LOWER_CASE = "lower_case"
    UPPER_CASE = "upper_case"
    TRUNCATION = "truncation"
    """Only the first half of the words is left."""
    WORD_ORDER = "word_order"
    """The words are shuffled."""


class EvaluationSettings(BaseModel):
    """Settings of an evaluation: metric, rows, confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    primary_metric: str | None = Field(
        default=None,
        description="Metric that decides, such as spearman, accuracy or ndcg@10; empty for the default of the labels' kind.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of every interval, two-sided (0.5 to 1)."
    )
    num_resamples: int = Field(default=2_000, ge=100, le=100_000, description="Bootstrap resamples.")
    min_test_rows: int = Field(
        default=20, ge=2, le=1_000_000, description="Fewest held-out rows on which two encoders are compared (rows)."
    )
    max_test_rows: int = Field(
        default=20_000,
        ge=2,
        le=1_000_000,
        description="Most held-out rows of a set that are used; beyond, a fixed sample (rows).",
    )
    max_probe_rows: int = Field(
        default=20_000,
        ge=2,
        le=1_000_000,
        description="Most training rows that the logistic probe and the neighbours see (rows).",
    )
    probe_strength: float = Field(
        default=10.0, gt=0, le=1e6, description="Inverse of the logistic probe's L2 penalty (scikit-learn's C)."
    )
    num_neighbors: int = Field(default=10, ge=1, le=1_000, description="Neighbours that vote on a class.")
    recall_at: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        default=(1, 10, 100), max_length=100, description="Depths k of recall@k; empty for no recall."
    )
    slice_columns: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        max_length=100,
        description="Columns of the labels: the metric is also reported for each of their values, beside length.",
    )
    min_slice_rows: int = Field(
        default=20, ge=1, le=1_000_000_000, description="Fewest rows of a slice that is reported (rows)."
    )
    perturbations: tuple[Perturbation, ...] = Field(
        default=tuple(Perturbation), description="Robustness checks: the primary metric on texts changed in this way."
    )
    bias: bool = Field(default=True, description="Whether to run the word-association tests.")
    num_permutations: int = Field(
        default=10_000, ge=100, le=1_000_000, description="Permutations of an association test's p-value."
    )
    speed_texts: int = Field(
        default=512, ge=0, le=1_000_000, description="Texts on which speed is measured; 0 for no measurement (texts)."
    )
    num_geometry_texts: int = Field(
        default=2_000, ge=20, le=20_000, description="Different texts on which collapse is probed (texts)."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="Seed of resamples, samples, perturbations and permutations."
    )

    @model_validator(mode="after")
    def _check(self) -> "EvaluationSettings":
        if self.min_test_rows > self.max_test_rows:
            raise SettingsError(
                f"min_test_rows {self.min_test_rows} is above max_test_rows {self.max_test_rows}: no set could have enough "
                "rows"
            )
        return self
