"""The job of one refresh: settings that are also the flow's parameters and the record of a run.

The settings of `source`, `cleaning` and `encoding` belong to the table. A job names only those that it wants to change;
`sbert.refresh.table_settings` fills in the others. So "not named" must stay distinguishable from "named with the default's
value": copies of settings are made from the fields that were set.
"""

import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.errors import SettingsError
from sbert.refresh.backfill_selection import Selection
from sbert.rows.cleaning import CleaningSettings
from sbert.source.settings import ReadSettings, SourceSettings, SplitSettings
from sbert.storage.files import normalize_uri
from sbert.table.shards import RESERVED_COLUMNS, ShardSettings
from sbert.vectors.checks import COLLAPSE_COSINE
from sbert.vectors.precision import MIN_RECALL, Precision

__all__ = [
    "DeletionLimitSettings",
    "EncodingSettings",
    "QualitySettings",
    "RefreshJob",
    "RefreshSettings",
    "TruncationPolicy",
]

log = logging.getLogger(__name__)

GUARD = "guard"
"""Name that `deletion_limit` and `quality` had together in earlier releases."""


class TruncationPolicy(StrEnum):
    """Treatment of a text with more tokens than the encoder takes."""

    TRUNCATE = "truncate"
    """The first max_seq_length tokens are encoded and the row is marked."""
    WINDOW = "window"
    """Overlapping windows are encoded; the vector is their token-weighted mean."""
    REJECT = "reject"
    """The row is rejected."""
    FAIL = "fail"
    """The run fails when more than max_truncated_share of the rows would be truncated."""


class EncodingSettings(BaseModel):
    """Settings by which texts become vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    truncation: TruncationPolicy = Field(
        default=TruncationPolicy.TRUNCATE,
        description="Treatment of a text longer than max_seq_length (policy).",
    )
    max_truncated_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Under policy fail: share of truncated rows that is still accepted (0 to 1).",
    )
    windows: WindowSettings = Field(
        default_factory=WindowSettings, description="Under policy window: how windows overlap."
    )
    max_seq_length: int | None = Field(
        default=None,
        ge=3,
        le=131_072,
        description="Tokens the encoder takes; empty for the model's own limit (tokens).",
    )
    compute_dtype: ComputeDtype | None = Field(
        default=None,
        description="Type the encoder computes in; empty for the table's own, for a new table the fastest that gives the "
        "vectors of float32.",
    )
    normalize: bool | None = Field(
        default=None,
        description="Whether vectors get unit length; empty for the table's own, yes for a new table.",
    )
    precision: Precision | None = Field(
        default=None,
        description="Type of the stored values: float32, or int8 with one scale a vector (a quarter of the size); empty "
        "for the table's own, float32 for a new table.",
    )
    output_dim: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Values of a vector that are stored, the first ones, for models trained with Matryoshka loss; empty for "
        "the table's own, all for a new table (values).",
    )
    min_recall: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least recall@10 against float32 that smaller vectors must have, else nothing is published; empty for "
        f"the table's own, {MIN_RECALL} for a new table (0 to 1).",
    )
    prompt: str | None = Field(
        default=None, description="Text put before each document; empty for the model's own document prompt."
    )
    token_budget: int | None = Field(
        default=None,
        ge=16,
        le=16_777_216,
        description="Padded tokens of one batch; empty to choose by device (tokens).",
    )


class DeletionLimitSettings(BaseModel):
    """Limits on how much of a table one run may remove."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_drop_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the table's rows, and of its source objects, that one run may remove. Losing a kept column "
        "counts as 1, because every row loses its value (0 to 1).",
    )


class QualitySettings(BaseModel):
    """Limits beyond which new vectors are not published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_mean_cosine: float = Field(
        default=COLLAPSE_COSINE,
        gt=0,
        le=1,
        description="Mean cosine between new vectors of different texts, above which the encoder counts as collapsed; 1 "
        "accepts every encoder (above 0, to 1).",
    )


class RefreshSettings(BaseModel):
    """Everything about a refresh beyond where to read, where to write and which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceSettings = Field(default_factory=SourceSettings, description="Columns that are read.")
    cleaning: CleaningSettings = Field(
        default_factory=CleaningSettings, description="Rules by which texts are cleaned."
    )
    encoding: EncodingSettings = Field(
        default_factory=EncodingSettings, description="Settings by which texts become vectors."
    )
    keep_no_columns: bool = Field(
        default=False,
        description="Keep no source column. The table loses the columns that it keeps, so the deletion limit must allow "
        "it. An empty keep_columns means the table's own columns.",
    )
    reading: ReadSettings = Field(default_factory=ReadSettings, description="Sizes of the blocks that are read.")
    splits: SplitSettings = Field(default_factory=SplitSettings, description="Sizes of the units of work.")
    shards: ShardSettings = Field(default_factory=ShardSettings, description="Sizes of the files that are written.")
    deletion_limit: DeletionLimitSettings = Field(
        default_factory=DeletionLimitSettings, description="Limits on how much of a table one run may remove."
    )
    quality: QualitySettings = Field(
        default_factory=QualitySettings, description="Limits beyond which new vectors are not published."
    )
    run_file_bytes: int = Field(
        default=4 * 2**30,
        ge=0,
        description="Local disk that may hold this run's vectors, so that equal texts are encoded once (bytes).",
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_guard(cls, values: Any) -> Any:
        """Read `guard`, the name of `deletion_limit` and `quality` in earlier releases."""
        if not isinstance(values, dict) or GUARD not in values:
            return values
        if {"deletion_limit", "quality"} & values.keys():
            raise SettingsError(f"{GUARD} and its new names deletion_limit and quality are both given: remove {GUARD}")
        guard = values[GUARD]
        if not isinstance(guard, dict):
            raise SettingsError(f"{GUARD} is {guard!r}: write deletion_limit: {{max_drop_share: …}} instead")
        log.warning(
            "the setting guard is now called deletion_limit (max_drop_share) and quality (max_mean_cosine); the old name "
            "will be removed"
        )
        others = {name: value for name, value in values.items() if name != GUARD}
        limit = {name: value for name, value in guard.items() if name != "max_mean_cosine"}
        quality = {name: value for name, value in guard.items() if name == "max_mean_cosine"}
        return others | ({"deletion_limit": limit} if limit else {}) | ({"quality": quality} if quality else {})

    @model_validator(mode="after")
    def _check(self) -> "RefreshSettings":
        clash = [name for name in self.source.keep_columns if name in RESERVED_COLUMNS]
        if clash:
            raise SettingsError(
                f"keep_columns names {clash}, which the table uses for itself ({', '.join(RESERVED_COLUMNS)}): "
                "leave them out or rename them in the source"
            )
        if len(set(self.source.keep_columns)) < len(self.source.keep_columns):
            raise SettingsError(
                f"keep_columns names a column twice ({', '.join(self.source.keep_columns)}): name it once"
            )
        if self.keep_no_columns and self.source.keep_columns:
            raise SettingsError(
                f"keep_columns names {', '.join(self.source.keep_columns)}, and keep_no_columns is on: leave one out"
            )
        return self

    def with_source(self, **fields: str | Sequence[str] | Mapping[str, str] | None) -> "RefreshSettings":
        """Return settings in which `fields` replace fields of ``source``; None leaves a field as it is.

        Of a field that holds settings itself, such as ``passages``, only the named ones are replaced.
        """
        overrides = {name: value for name, value in fields.items() if value is not None}
        if not overrides:
            return self
        named = self.model_dump(exclude_unset=True)
        source = dict(named.get("source", {}))
        for name, value in overrides.items():
            source[name] = {**(source.get(name) or {}), **value} if isinstance(value, Mapping) else value
        return RefreshSettings.model_validate({**named, "source": source})

    def allowing_drops(self, allowed: bool) -> "RefreshSettings":
        """Return settings under which a run may remove everything, if `allowed`; nothing else changes."""
        if not allowed:
            return self
        limit = self.deletion_limit.model_copy(update={"max_drop_share": 1.0})
        return self.model_copy(update={"deletion_limit": limit})


def _no_field(name: str) -> str:
    """Return why a job has no field `name`, and the settings that have it."""
    said = f"{name}: no such field of RefreshJob"
    if name in RefreshSettings.model_fields:
        return f"{said}; it is a setting: settings=RefreshSettings({name}=...)"
    for group, field in RefreshSettings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields:
            return (
                f"{said}; it is a setting of {group}: settings=RefreshSettings({group}={kind.__name__}({name}=...)), with "
                f"{kind.__name__} of {kind.__module__}"
            )
    return f"{said}; the fields are {', '.join(RefreshJob.model_fields)}"


class RefreshJob(BaseModel):
    """One refresh, or with a selection one backfill: bring the table up to date with the raw text."""

    # A location may hold credentials: it is then refused, and the error must not repeat it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    raw_uri: str = Field(min_length=1, description="File, folder or glob of raw text, local or s3://.")
    table_uri: str = Field(min_length=1, description="Folder of the table, local or s3://.")
    model: str | None = Field(
        default=None, description="Sentence encoder: folder, s3:// URI or hub id; empty for the table's own."
    )
    settings: RefreshSettings = Field(default_factory=RefreshSettings, description="Everything else.")
    selection: Selection | None = Field(
        default=None,
        description="Objects to work on, all others keep their rows; empty for all, dropping what is gone.",
    )
    force: bool = Field(default=False, description="Whether to compute every vector anew.")

    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            """Make a job.

            Raises:
                SettingsError: a field is no field of a job; for a setting it says where it belongs.
            """
            strangers = [name for name in fields if name not in type(self).model_fields]
            if strangers:
                raise SettingsError("; ".join(_no_field(name) for name in strangers))
            super().__init__(**fields)

    @field_validator("raw_uri", "table_uri")
    @classmethod
    def _normalize(cls, uri: str) -> str:
        """Bring a location into its one spelling, so that nothing later depends on how it was typed."""
        return normalize_uri(uri)

    @property
    def operation(self) -> str:
        """Return the name of the job: backfill when it has a selection, else refresh."""
        return "refresh" if self.selection is None else "backfill"

    @model_validator(mode="after")
    def _check(self) -> "RefreshJob":
        if self.force and self.selection is not None and self.selection.limit is not None:
            raise SettingsError(
                f"force with limit {self.selection.limit}: force computes whole objects anew, but limit cuts them: leave "
                "one out, or choose fewer objects with include"
            )
        return self
