"""Settings of labels: columns, ranges, and how rows are split into train, dev and test."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sbert.errors import SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.source.settings import CsvSettings, Encoding

__all__ = ["LabelSettings"]

NEWER: dict[str, Any] = {"csv": CsvSettings(), "encoding": None}
"""Settings that earlier releases did not have, with their defaults."""
ColumnName = Annotated[str, Field(min_length=1)]


class LabelSettings(BaseModel):
    """Settings for reading and splitting labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: LabelKind | None = Field(
        default=None, description="Kind of the labels; empty to recognise it from the columns."
    )
    columns: dict[str, ColumnName] = Field(
        default_factory=dict,
        description="Names of columns in the source, by the name that is used here: {'label': 'category'}.",
    )
    csv_columns: tuple[ColumnName, ...] = Field(
        default=(),
        description="Names of the columns of CSV objects without a header, in order; empty when they have one.",
    )
    csv: CsvSettings = Field(default_factory=CsvSettings, description="How records of CSV are written.")
    encoding: Encoding | None = Field(
        default=None, description="Encoding of all text objects; empty to tell it by looking at each."
    )
    score_min: float = Field(default=0.0, description="Lowest score there can be (unit of the labels).")
    score_max: float = Field(default=1.0, description="Highest score there can be (unit of the labels).")
    keep_columns: tuple[ColumnName, ...] = Field(
        default=(),
        description="Further columns of the source that rows keep, such as those that evaluations slice by.",
    )
    split_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column that says train, dev or test; empty: a column called split, else object names, else a hash.",
    )
    use_given_splits: bool = Field(
        default=True,
        description="Take the split of rows from a column called split, or from train, dev, validation or test in an "
        "object's name.",
    )
    dev_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of rows for dev when the source names no dev rows (0 to 1)."
    )
    test_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of rows for test when the source names no test rows (0 to 1)."
    )
    split_seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the hash that splits rows.")
    near_duplicate_similarity: float = Field(
        default=0.85,
        gt=0.3,
        le=1,
        description="Jaccard similarity of 3-character shingles at which two texts count as the same (0 to 1).",
    )
    max_leakage: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Labels are refused when a larger share of given dev or test rows is also in train (0 to 1).",
    )
    max_contradictions: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Labels are refused when a larger share of rows contradicts another row of the same texts (0 to 1).",
    )
    min_train_rows: int = Field(default=8, ge=1, le=1_000_000_000, description="Fewest rows to train on (rows).")

    @model_validator(mode="after")
    def _check(self) -> "LabelSettings":
        if self.score_min >= self.score_max:
            raise SettingsError(f"score_min {self.score_min} is not below score_max {self.score_max}")
        repeated = sorted({name for name in self.csv_columns if self.csv_columns.count(name) > 1})
        if repeated:
            raise SettingsError(f"csv_columns names {repeated} twice: give each column a name of its own")
        if self.dev_share + self.test_share >= 1:
            raise SettingsError(
                f"dev_share {self.dev_share} and test_share {self.test_share} leave nothing to train on: lower them"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave newer settings out at their defaults, so that the keys of earlier runs stay as they are."""
        return {
            name: value for name, value in dump(self).items() if name not in NEWER or getattr(self, name) != NEWER[name]
        }
