"""The production log of a registry: a list of pointers to versions. The last pointer is production.

The one idea: a promotion that read pointer N creates pointer N + 1, and a file can be created only once. If two promotions
run at the same time, one creates the file and the other fails. Nothing is overwritten, so the log is also the history.

    MODELS_URI/production/000001.json   {"version": "v0001", "action": "first", …}
    MODELS_URI/production/000002.json   {"version": "v0002", "action": "promotion", …}
"""

import datetime as dt
import re
import uuid
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import ModelError, PromotionConflictError, RegistryError
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import base_name, join, list_names, read_bytes

__all__ = [
    "DROPPED_NAME",
    "MODEL_FOLDER",
    "RECORD_NAME",
    "Pointer",
    "PointerReason",
    "append_pointer",
    "production_log",
    "resolve_model",
]

PRODUCTION_FOLDER = "production"
MODEL_FOLDER = "model"
RECORD_NAME = "version.json"
DROPPED_NAME = "dropped.json"
POINTER_NAME = re.compile(r"(\d{6,})\.json")


class PointerReason(StrEnum):
    """Reasons for a change of production."""

    FIRST = "first"
    """The registry was empty."""
    PROMOTION = "promotion"
    """A candidate was better."""
    ROLLBACK = "rollback"
    """Someone asked for an earlier version."""


class Pointer(BaseModel):
    """One entry of the log."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="Place in the log, from 1.")
    version: str = Field(description="The version that is production from here on.")
    encoder_fingerprint: str
    previous: str | None = Field(description="The version that was production before.")
    action: PointerReason
    reason: str
    run_id: str
    moved_at: str = Field(description="UTC time in ISO 8601.")
    token: str = Field(default_factory=lambda: uuid.uuid4().hex, description="Tells two writers' entries apart.")


def production_log(models_uri: str) -> list[str]:
    """Return the URIs of the log's entries, oldest first."""
    names = [name for name in list_names(join(models_uri, PRODUCTION_FOLDER)) if POINTER_NAME.fullmatch(name)]
    return [join(models_uri, PRODUCTION_FOLDER, name) for name in sorted(names, key=lambda name: int(name[:-5]))]


def read_pointer(uri: str) -> Pointer:
    """Read one entry.

    Raises:
        RegistryError: when it is not one.
    """
    try:
        return Pointer.model_validate_json(read_bytes(uri))
    except ValidationError as error:
        raise RegistryError(
            f"{uri}: not an entry of a registry's production log: {error.errors()[0]['msg']}"
        ) from error


def append_pointer(
    models_uri: str,
    current: Pointer | None,
    *,
    version: str,
    encoder_fingerprint: str,
    action: PointerReason,
    reason: str,
    run_id: str,
) -> Pointer:
    """Make `version` production, if `current` still is.

    Raises:
        PromotionConflictError: when production has changed since `current` was read; it stays what it is.
    """
    pointer = Pointer(
        number=current.number + 1 if current else 1,
        version=version,
        encoder_fingerprint=encoder_fingerprint,
        previous=current.version if current else None,
        action=action,
        reason=reason,
        run_id=run_id,
        moved_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    uri = join(models_uri, PRODUCTION_FOLDER, f"{pointer.number:06}.json")
    if not create_bytes(uri, pointer.model_dump_json(indent=1).encode()):
        winner = read_pointer(uri)
        raise PromotionConflictError(
            f"{models_uri}: another {winner.action} made {winner.version} production first (run {winner.run_id}), so "
            f"{version} is not promoted: run again to compare with {winner.version} instead of "
            f"{pointer.previous or 'nothing'}"
        )
    return pointer


def resolve_model(model: str) -> str:
    """Return the model folder of a location: of a registry that of its production version, of a version its model.

    Any other location is returned as it is: a model folder, a hub id, a location with nothing there.

    Raises:
        ModelError: when the location is a registry without a production version, or a version without weights.
        RegistryError, StorageError: when the pointer cannot be read.
    """
    model = model.rstrip("/") or model
    names = list_names(model)
    if "config.json" in names or "modules.json" in names:
        return model
    if RECORD_NAME in names and DROPPED_NAME in names:
        raise ModelError(
            f"{model}: this version was refused and its weights were removed (keep_refused): name another version, or "
            "retrain with --force"
        )
    if RECORD_NAME in names and MODEL_FOLDER in names:
        return join(model, MODEL_FOLDER)
    if base_name(model) == PRODUCTION_FOLDER and any(map(POINTER_NAME.fullmatch, names)):
        model = model[: -len(PRODUCTION_FOLDER) - 1]
    elif PRODUCTION_FOLDER not in names:
        if any(re.fullmatch(r"v\d{4,}", name) for name in names):
            raise ModelError(
                f"{model}: this registry has no production version: run `sbert retrain`, or choose one with "
                "`sbert models … rollback --version`"
            )
        return model
    log = production_log(model)
    if not log:
        return model
    return join(model, read_pointer(log[-1]).version, MODEL_FOLDER)
