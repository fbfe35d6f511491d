"""Remember the results of a full load of an encoder, so that later processes start faster.

Importing transformers and proving a runner take several seconds. Both give the same result every time for the same files,
code and machine. The first load writes a record of the result into the user's cache. Later loads on this machine read it,
and a plan that needs no more than the fingerprint needs no weights at all. This module does not import torch.
"""

import functools
import hashlib
import logging
import os
import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sbert.encoder.description import EncoderDescription, EncoderSpec
from sbert.encoder.engine.proven_runner import ProvenRunner
from sbert.runtime.compiler import find_compiler
from sbert.runtime.cpus import processor_units
from sbert.runtime.user_cache import user_cache
from sbert.storage.local_write import LocalWrite

__all__ = ["LoadRecord", "find_record", "has_records", "record_path", "record_paths", "write_record"]

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
"""Packages whose version can change what a load gives."""
VARIABLES = (
    "SBERT_COMPUTE_DTYPE",
    "SBERT_NATIVE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES",
)
"""Environment variables that can change how an encoder computes."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")
"""Files of the drivers of accelerators."""
CODE_SUFFIXES = (".py", ".cpp", ".h")
MAX_RECORDS = 64
"""Records kept on a machine, about 1 MB each."""


class LoadRecord(BaseModel):
    """The result of a full load of an encoder of the BERT family on a CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: EncoderDescription
    config: dict[str, Any]
    """The transformer's settings, as ``config.json`` and the defaults of transformers give them."""
    tensor_names: tuple[str, ...]
    """Names of the weights, without those of the pooler."""
    name_prefix: str
    """Prefixes that a file of weights may put before these names, for example ``bert``."""
    tokenizer: str
    """The tokenizer of ``tokenizers``, as JSON."""
    pad_token_id: int | None
    model_max_length: int
    runner: ProvenRunner


def record_path(folder: Path, spec: EncoderSpec) -> Path:
    """Return the file of the record for a model folder and the choices of its user.

    The name is a hash of everything that a load depends on: the content of all files of the folder, the choices, the
    versions of packages, this project's code, the compiler, and the processor.
    """
    return record_paths(folder, spec)[0]


def record_paths(folder: Path, *specs: EncoderSpec) -> list[Path]:
    """Return the files of the records for several choices; the folder is read once."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content.update(f"{path.relative_to(folder)}|{hashlib.file_digest(file, 'sha256').hexdigest()}|".encode())
    machine = (*_machine(), find_compiler(), [os.environ.get(name) for name in VARIABLES], content.hexdigest())
    names = [repr((*machine, spec.model_dump_json(exclude={"model"}))) for spec in specs]
    return [_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json" for name in names]


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
    return user_cache() / "encoders"


@functools.cache
def _machine() -> tuple[str, ...]:
    """Return the facts that a load depends on beside the model: versions, code, processor."""
    code = hashlib.sha256()
    pending = [resources.files("sbert.encoder"), resources.files("sbert.runtime")]
    while pending:
        for entry in sorted(pending.pop().iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                pending.append(entry)
            elif entry.name.endswith(CODE_SUFFIXES):
                code.update(entry.read_bytes())
    versions = [metadata.version(package) for package in PACKAGES]
    drivers = [file for file in ACCELERATORS if Path(file).exists()]
    return (*versions, *drivers, code.hexdigest(), _processor())


def _processor() -> str:
    """Return a text that differs between processors with other units."""
    return f"{platform.machine()} {platform.processor()} {processor_units()}"
