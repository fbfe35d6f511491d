"""Read a model folder in sentence-transformers' format, or a plain Hugging Face encoder: all but the transformer's weights.

Only safetensors are read. Code that a folder may carry is never run.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sbert.encoder.folder_settings import (
    FolderSettings,
    TextSettings,
    read_folder_settings,
    read_json,
    read_text_settings,
)
from sbert.encoder.module_files import (
    WEIGHTS,
    read_dense,
    read_layer_norm,
    read_normalize,
    read_pooling,
)
from sbert.encoder.modules import Truncate
from sbert.encoder.pooling import Pooling
from sbert.errors import ModelError

__all__ = ["ModelFolder", "read_folder"]

NAMESPACE = "sentence_transformers."
READERS = {"Dense": read_dense, "LayerNorm": read_layer_norm, "Normalize": read_normalize}
WITHOUT_EFFECT = frozenset({"Dropout"})
"""Modules that change nothing when texts are encoded."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class ModelFolder:
    """Everything that a model folder says, except the transformer's weights."""

    transformer: Path
    """Folder of the Hugging Face encoder and tokenizer."""
    pooling: Pooling | None
    """None for a plain encoder, whose folder does not say how to pool."""
    layers: list[nn.Module] = field(default_factory=list)
    """The modules after pooling, in order."""
    text: TextSettings = field(default_factory=TextSettings)
    settings: FolderSettings = field(default_factory=FolderSettings)


def read_folder(folder: Path) -> ModelFolder:
    """Read a model folder's own files.

    Raises:
        ModelError: when a file is missing, or something in the folder is not supported.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        _check_transformer(folder)
        return ModelFolder(transformer=folder, pooling=None)
    modules = _read_module_list(modules_file)
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if not kinds or kinds[0] != "Transformer":
        raise ModelError(f"{folder}: the first module is {kinds[0] if kinds else 'missing'}, expected a Transformer")
    transformer = folder / modules[0]["path"]
    _check_transformer(transformer)
    pooling: Pooling | None = None
    layers: list[nn.Module] = []
    for kind, module in zip(kinds[1:], modules[1:], strict=True):
        place = folder / module["path"]
        if kind == "Pooling" and pooling is None:
            pooling = read_pooling(place)
        elif kind in READERS and pooling is None:
            raise ModelError(f"{folder}: module {kind} stands before Pooling: put it after Pooling in modules.json")
        elif kind in READERS:
            layers.append(READERS[kind](place))
        elif kind not in WITHOUT_EFFECT:
            supported = ", ".join(["Pooling", *READERS, *WITHOUT_EFFECT])
            raise ModelError(f"{folder}: module {kind} ({module['type']}) is not one of {supported}")
    if pooling is None:
        raise ModelError(
            f"{folder}: modules.json names no Pooling, so a text has no single vector: add a Pooling module"
        )
    settings = read_folder_settings(folder)
    if settings.truncate_dim is not None:
        layers.append(Truncate(settings.truncate_dim))
    return ModelFolder(transformer, pooling, layers, read_text_settings(transformer), settings)


def _read_module_list(path: Path) -> list[dict[str, Any]]:
    """Read modules.json: the modules in the order in which they are applied."""
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    for module in modules if isinstance(modules, list) else [modules]:
        if not isinstance(module, dict) or not all(isinstance(module.get(name), str) for name in ("path", "type")):
            raise ModelError(f"{path}: expected a list of modules, each with a path and a type")
        if not module["type"].startswith(NAMESPACE):
            raise ModelError(
                f"{path}: module {module['type']} is code of the model's author, which is never run: use a model that is "
                "made of sentence-transformers' own modules"
            )
        if Path(module["path"]).is_absolute() or ".." in Path(module["path"]).parts:
            raise ModelError(f"{path}: module path {module['path']!r} leads out of the model folder")
    return list(modules)


def _check_transformer(folder: Path) -> None:
    """Check that a folder holds a transformer with safe weights, and a tokenizer."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise ModelError(
            f"{folder}: holds an adapter for {base}, not a whole model (adapter_config.json): merge the adapter into its "
            "base (peft's merge_and_unload), save the result and remove that file"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder (no config.json)")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for ending in ("bin", "pt", "ckpt") for path in folder.glob(f"*.{ending}"))
        if pickled:
            raise ModelError(
                f"{folder}: the weights are pickled ({', '.join(pickled)}), which can run code when loaded: convert them "
                "to model.safetensors (load the model where you trust it and call save_pretrained)"
            )
        raise ModelError(f"{folder}: no weights ({WEIGHTS})")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder}: no tokenizer (tokenizer.json): save the model's fast tokenizer into the folder")
