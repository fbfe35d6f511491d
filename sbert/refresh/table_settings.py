"""A table's own settings: everything that decides its rows stays as it is unless a run names a change.

The table records the settings of `source`, `cleaning` and `encoding` with each commit. A run fills in what it does not
name from there, and lists what it changes. Tables of releases that recorded no settings have theirs inferred: from the
schema, from the encoder's metadata, and by trying which settings give the fingerprints that the table's splits have.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.errors import SettingsError
from sbert.refresh.encoder_choice import encoder_spec, vector_fingerprint
from sbert.refresh.fingerprints import recorded_fingerprint, rows_fingerprint
from sbert.refresh.job import EncodingSettings, RefreshJob, RefreshSettings, TruncationPolicy
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shard_layout import locate_splits
from sbert.table.split_records import SplitRecord, find_record

__all__ = [
    "ResolvedJob",
    "SettingChange",
    "check_backfill_changes",
    "encoder_changes",
    "resolve_job",
    "settings_record",
]

log = logging.getLogger(__name__)

GROUPS = ("source", "cleaning", "encoding")
"""Groups of `RefreshSettings` that decide a table's rows."""
NESTED = (("encoding", "windows"), ("source", "csv"), ("source", "passages"))
"""Settings that are groups themselves: a run may name a part of them."""
RECORDED_ENCODING = frozenset({"truncation", "max_truncated_share", "windows", "max_seq_length", "normalize", "prompt"})
"""Encoding settings recorded here. The others are in `EncoderInfo`, or decide no row."""
ENCODER_FACTS = (
    "model",
    "dim",
    "pooling",
    "normalized",
    "precision",
    "min_recall",
    "compute_dtype",
    "max_seq_length",
    "prompt",
)
"""Fields of `EncoderInfo` whose changes a plan names."""
TRIED_RECORDS = 3
"""Completion records that inferred settings are checked against."""
TRIED_CLEANING = {
    "unicode_form": ("NFC", "NFKC", None),
    "strip_control_characters": (True, False),
    "strip_html": (True, False),
    "collapse_whitespace": (True, False),
    "mask_urls": (False, True),
    "mask_emails": (False, True),
    "drop_duplicate_texts": (False, True),
}
"""Values that are tried for a table that recorded no settings; the default comes first."""

Named = dict[str, dict[str, Any]]
"""Settings by group and name."""


class SettingChange(BaseModel):
    """One setting of the table that a run changes."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Full name of the setting, or of the fact about the encoder.")
    before: JsonValue = Field(description="The table's value.")
    after: JsonValue = Field(description="The value that the run names.")

    @property
    def shown_before(self) -> str:
        """The table's value as a person reads it."""
        return _shown(self.before)

    @property
    def shown_after(self) -> str:
        """The run's value as a person reads it."""
        return _shown(self.after)

    def describe(self) -> str:
        """Return the change in one line."""
        return f"{self.name}: {self.shown_before} → {self.shown_after}"


class ResolvedJob(BaseModel):
    """A job with the table's own settings filled in."""

    model_config = ConfigDict(frozen=True)

    job: RefreshJob
    changes: tuple[SettingChange, ...] = Field(default=(), description="Settings of the table that the job changes.")
    columns_lost: tuple[str, ...] = Field(default=(), description="Columns that the table keeps and the job does not.")


def resolve_job(job: RefreshJob, table: Table | None) -> ResolvedJob:
    """Fill in every setting of the table that the job does not name, and list the settings that it changes.

    Raises:
        SettingsError: the table recorded no settings, and none that were tried made it.
    """
    if table is None:
        return ResolvedJob(job=job)
    named = _named(job.settings)
    own = _own_settings(job, table, named)
    if job.settings.keep_no_columns:
        named.setdefault("source", {})["keep_columns"] = []
    kept = own["source"]["keep_columns"]
    if set(named.get("source", {}).get("keep_columns", [])) == set(kept):
        named.get("source", {}).pop("keep_columns", None)  # another order is not a change
    settings = _with_groups(job.settings, _merged(own, named))
    effective = _own_groups(settings)
    changes = [
        SettingChange(name=f"{group}.{name}", before=before, after=effective[group][name])
        for group in GROUPS
        for name, before in own[group].items()
        if group != "encoding" or name not in {"max_seq_length", "normalize", "prompt"}
        if effective[group][name] != before
    ]
    return ResolvedJob(
        job=job.model_copy(update={"settings": settings}),
        changes=tuple(changes),
        columns_lost=tuple(column for column in kept if column not in settings.source.keep_columns),
    )


def encoder_changes(table: Table | None, encoder: EncoderInfo) -> list[SettingChange]:
    """List the facts about the table's encoder that a run changes."""
    if table is None:
        return []
    before, after = table.encoder.model_dump(mode="json"), encoder.model_dump(mode="json")
    changes = [
        SettingChange(name=f"encoder.{name}", before=before[name], after=after[name])
        for name in ENCODER_FACTS
        if before[name] != after[name]
    ]
    if not changes and before["model_fingerprint"] != after["model_fingerprint"]:
        changes.append(
            SettingChange(
                name="encoder.model_fingerprint",
                before=before["model_fingerprint"][:12],
                after=after["model_fingerprint"][:12],
            )
        )
    return changes


def check_backfill_changes(job: RefreshJob, changes: tuple[SettingChange, ...]) -> None:
    """Refuse a backfill that would put rows of other settings beside the rows that stay.

    Raises:
        SettingsError: naming each setting with both values.
    """
    if changes:
        raise SettingsError(
            f"{job.table_uri}: the backfill names other settings than the table has, and rows outside the choice stay "
            f"({'; '.join(change.describe() for change in changes)}): leave these settings out, or change the whole table "
            "with `sbert refresh`"
        )


def settings_record(settings: RefreshSettings, encoder: EncoderInfo, model_prompt: str) -> Named:
    """Return the record of the settings that decide the table's rows, for a commit.

    A prompt that is the model's own is recorded as none, so that another model brings its own prompt.
    """
    record = _own_groups(settings)
    prompt = settings.encoding.prompt
    record["encoding"]["prompt"] = None if prompt == model_prompt else prompt
    record["encoding"]["normalize"] = encoder.normalized
    return record


def _shown(value: JsonValue) -> str:
    """Return a value as a person reads it in a change."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else repr(value) if value == "" else str(value)


def _own_groups(settings: RefreshSettings) -> Named:
    """Return all settings that decide rows, by group."""
    groups = {group: getattr(settings, group).model_dump(mode="json") for group in GROUPS}
    return {**groups, "encoding": {name: groups["encoding"][name] for name in sorted(RECORDED_ENCODING)}}


def _named(settings: RefreshSettings) -> Named:
    """Return the settings of the groups that a person named.

    Empty kept columns are not named. Neither are passages or an encoding setting that is null, except the prompt.
    """
    groups = settings.model_dump(mode="json", exclude_unset=True, include=set(GROUPS))
    named: Named = {group: dict(fields) for group, fields in groups.items()}
    if not named.get("source", {}).get("keep_columns", True):
        del named["source"]["keep_columns"]
    if named.get("source", {}).get("passages", {}) is None:
        del named["source"]["passages"]
    encoding = named.get("encoding", {})
    for name in [name for name, value in encoding.items() if value is None and name != "prompt"]:
        del encoding[name]
    return named


def _merged(own: Named, named: Named) -> Named:
    """Return the table's own settings with the named ones over them."""
    merged = {group: {**own[group], **named.get(group, {})} for group in GROUPS}
    for group, name in NESTED:
        of_table, of_run = own[group].get(name), named.get(group, {}).get(name)
        if of_table is not None and of_run is not None:
            merged[group][name] = {**of_table, **of_run}
    return merged


def _with_groups(settings: RefreshSettings, groups: Mapping[str, Any]) -> RefreshSettings:
    named = settings.model_dump(exclude_unset=True, exclude={*GROUPS, "keep_no_columns"})
    return RefreshSettings.model_validate({**named, **groups})


def _own_settings(job: RefreshJob, table: Table, named: Named) -> Named:
    """Return the settings that the table has."""
    recorded = table.recorded_settings
    if recorded is not None:
        return _read_record(table, recorded)
    return _infer_settings(job, table, named)


def _read_record(table: Table, recorded: Mapping[str, Any]) -> Named:
    """Return recorded settings, with defaults for settings that an earlier release did not know."""
    groups: dict[str, Any] = {}
    for group in GROUPS:
        fields = type(getattr(RefreshSettings(), group)).model_fields
        values = dict(recorded.get(group) or {})
        if unknown := sorted(values.keys() - fields.keys()):
            log.warning("%s: settings of a newer release are passed over: %s.%s", table.uri, group, ", ".join(unknown))
        groups[group] = {name: value for name, value in values.items() if name in fields}
    try:
        return _own_groups(RefreshSettings.model_validate(groups))
    except ValidationError as error:
        raise SettingsError(f"{table.uri}: the recorded settings cannot be read: {error}") from error


def _infer_settings(job: RefreshJob, table: Table, named: Named) -> Named:
    """Return the settings of a table that recorded none: the first that give the fingerprints of its splits.

    Raises:
        SettingsError: no settings that were tried do, and the run may not remove everything.
    """
    info = table.encoder
    encoding = EncodingSettings(
        truncation=TruncationPolicy(info.truncation),
        windows=_infer_windows(info),
        normalize=info.normalized,
        prompt=info.prompt if encoder_spec(job, table).model == info.model else None,  # another model brings its own
    )
    kept = tuple(table.kept_schema)
    base = RefreshSettings.model_validate(
        {"source": {"keep_columns": kept}, "encoding": encoding.model_dump(exclude_unset=True)}
    )
    records = list(itertools.islice(_records_of(table), TRIED_RECORDS))
    for settings in _candidates(base, named):
        if not records or any(_made_by(record, info, settings) for record in records):
            return _own_groups(settings)
    if job.settings.deletion_limit.max_drop_share < 1:
        raise SettingsError(
            f"{table.uri}: an earlier release made this table with settings that it did not record, and that this run does "
            "not name: name them once (text_column, id_column, cleaning, …), or pass --allow-drop (allow_drop in the form) "
            "to rebuild every row by the settings of this run"
        )
    return _own_groups(_with_groups(base, _merged(_own_groups(base), named)))


def _infer_windows(info: EncoderInfo) -> WindowSettings:
    """Return the windows that give the encoder's fingerprint; the default's when none does."""
    if info.truncation == TruncationPolicy.WINDOW:
        for stride in range(info.max_seq_length):
            windows = WindowSettings(stride=stride)
            encoding = EncodingSettings(
                truncation=TruncationPolicy.WINDOW, windows=windows, precision=info.precision, output_dim=info.dim
            )
            fingerprint = vector_fingerprint(info.model_fingerprint, info.full_dim, info.prompt, encoding)
            if fingerprint == info.fingerprint:
                return windows
    return WindowSettings()


def _records_of(table: Table) -> Iterator[SplitRecord]:
    """Read completion records of the table's splits."""
    for shard in locate_splits(table.uri, table.shards()):
        for fingerprint in shard.fingerprints:
            record = find_record(table.uri, fingerprint)
            if record is not None and record.encoder_fingerprint == table.encoder.fingerprint:
                yield record


def _candidates(base: RefreshSettings, named: Named) -> Iterator[RefreshSettings]:
    """Yield settings that may have made a table, the most likely first: as named by the run, then one by one."""
    own = _own_groups(base)
    yield base
    for start in (own, _merged(own, named)):
        yield _with_groups(base, start)
        for text_column, id_column, documents in itertools.product(
            dict.fromkeys([start["source"]["text_column"], *base.source.keep_columns]),
            dict.fromkeys([start["source"]["id_column"], "id"]),
            ("line", "file"),
        ):
            source = {"text_column": text_column, "id_column": id_column, "text_documents": documents}
            for values in itertools.product(*TRIED_CLEANING.values()):
                cleaning = dict(zip(TRIED_CLEANING, values, strict=True))
                yield _with_groups(base, _merged(start, {"source": source, "cleaning": cleaning}))


def _made_by(record: SplitRecord, encoder: EncoderInfo, settings: RefreshSettings) -> bool:
    """Return whether a split's rows were made with `settings`."""
    rows = rows_fingerprint(encoder.fingerprint, settings)
    return record.fingerprint == recorded_fingerprint(record.spans, rows)
