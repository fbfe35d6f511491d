"""Remember what a full load of an encoder found out, so that the next process starts without importing transformers.

Importing transformers and proving a runner take several seconds. Both give the same result every time for the same files,
code and machine. The first load writes a record of the result into the user's cache. Later loads on this machine read it.
"""

import functools
import hashlib
import logging
import os
import platform
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from sbert.encoder.engine.compiled import NATIVE_VARIABLE, cache_folder
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.runner_selection import ProvenRunner
from sbert.storage.local_write import LocalWrite

__all__ = ["LoadRecord", "find_record", "has_records", "record_path", "write_record"]

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
"""Packages whose version can change what a load gives."""
WEIGHTS = ".safetensors"
CODE_SUFFIXES = (".py", ".cpp", ".h")
MAX_RECORDS = 64
"""Records kept on a machine, about 1 MB each."""


class LoadRecord(BaseModel):
    """The result of a full load of an encoder of the BERT family."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any]
    """The transformer's settings, as ``config.json`` and the defaults of transformers give them."""
    tensor_names: tuple[str, ...]
    """Names of the weights, without those of the pooler."""
    name_prefix: str
    """What a file of weights may put before these names, for example ``bert``."""
    tokenizer: str
    """The tokenizer of ``tokenizers``, as JSON."""
    pad_token_id: int | None
    model_max_length: int
    compute_dtype: ComputeDtype
    runner: ProvenRunner
    fingerprint: str
    """The encoder's fingerprint. A load that gives another one does not use the record."""


def record_path(folder: Path, choices: Iterable[object]) -> Path:
    """Return the file of the record for a model folder and the choices of its user.

    The name is a hash of all that a load depends on: the files of the folder, the choices, the versions of packages, this
    project's code, and the processor. Weights count by size and time of change: the fingerprint checks their content.
    """
    digest = hashlib.sha256(repr((_machine(), [str(choice) for choice in choices])).encode())
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        state = file.stat()
        is_weights = file.name.endswith(WEIGHTS)
        content = (
            f"{state.st_size} {state.st_mtime_ns}" if is_weights else hashlib.sha256(file.read_bytes()).hexdigest()
        )
        digest.update(f"{file.name}|{content}|".encode())
    return _folder() / f"{digest.hexdigest()[:32]}.json"


def has_records() -> bool:
    """Return whether an encoder was loaded on this machine before."""
    return any(_folder().glob("*.json"))


def find_record(path: Path) -> LoadRecord | None:
    """Return the record of a file, or None when there is none that can be read."""
    try:
        return LoadRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(path: Path, record: LoadRecord) -> None:
    """Write a record, and remove the oldest ones when there are many.

    A cache that cannot be written costs time at the next start, nothing else.
    """
    try:
        records = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for old in records[: -MAX_RECORDS + 1]:
            old.unlink(missing_ok=True)
        write = LocalWrite(str(path))
        try:
            write.file.write(record.model_dump_json().encode())
            write.replace()
        finally:
            write.discard()
    except OSError as error:
        log.debug("the load of this encoder is not remembered: %s", error)


def _folder() -> Path:
    return cache_folder() / "encoders"


@functools.cache
def _machine() -> tuple[str, ...]:
    """Return what a load depends on beside the model: versions, code, processor."""
    code = hashlib.sha256()
    pending = [resources.files("sbert.encoder")]
    while pending:
        for entry in sorted(pending.pop().iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                pending.append(entry)
            elif entry.name.endswith(CODE_SUFFIXES):
                code.update(entry.read_bytes())
    versions = [metadata.version(package) for package in PACKAGES]
    return (*versions, code.hexdigest(), _processor(), os.environ.get(NATIVE_VARIABLE, ""))


def _processor() -> str:
    """Return a text that differs between processors with other units."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    units = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()} {units}"
