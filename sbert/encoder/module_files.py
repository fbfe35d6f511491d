"""Read and write the modules of a sentence-transformers folder that follow the transformer.

Only safetensors are read. Code that a folder may carry is never run.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from sbert.encoder.folder_settings import read_json, refuse
from sbert.encoder.modules import Dense, LayerNorm, Normalize, Truncate
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.errors import ModelError

__all__ = ["WEIGHTS", "read_dense", "read_layer_norm", "read_normalize", "read_pooling", "write_modules"]

WEIGHTS = "model.safetensors"
ONE_VECTOR = "sentence_embedding"
"""The name that sentence-transformers gives to the vector of a text, between two modules."""
LEGACY_POOLING = {
    "pooling_mode_cls_token": PoolingMode.CLS,
    "pooling_mode_max_tokens": PoolingMode.MAX,
    "pooling_mode_mean_tokens": PoolingMode.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": PoolingMode.MEAN_SQRT_LEN,
    "pooling_mode_weightedmean_tokens": PoolingMode.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": PoolingMode.LAST,
}
"""Flags of folders written before sentence-transformers 6, in the order their vectors are concatenated."""
POOLING_FIELDS = frozenset(
    {"embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt", *LEGACY_POOLING}
)


def read_pooling(folder: Path) -> Pooling:
    """Read a Pooling module.

    Raises:
        ModelError: when its size is missing, or a field or a way of pooling is unknown.
    """
    path = folder / "config.json"
    config = read_json(path)
    for name in sorted(config.keys() - POOLING_FIELDS):
        raise refuse(path, name, config[name], "remove the field if it does not change vectors")
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
            raise ModelError(f"{folder}: unknown pooling {unknown}, expected one of {', '.join(PoolingMode)}")
        modes = tuple(PoolingMode(name) for name in names)
    pooling = Pooling(size, modes, include_prompt=bool(config.get("include_prompt", True)))
    if pooling.query is not None:
        _load_weights(pooling, folder)
    return pooling


def read_dense(folder: Path) -> Dense:
    """Read a Dense module.

    Raises:
        ModelError: when it works on token vectors, has an unknown activation, or its weights are missing or do not fit.
    """
    config = read_json(folder / "config.json")
    _check_one_vector(folder, config)
    for name in ("in_features", "out_features"):
        if not isinstance(config.get(name), int):
            raise ModelError(f"{folder / 'config.json'}: {name} is {config.get(name)!r}, expected a number of values")
    dense = Dense(
        config["in_features"],
        config["out_features"],
        bias=config.get("bias", True),
        activation=config.get("activation_function", "torch.nn.modules.activation.Tanh"),
        use_residual=config.get("use_residual", False),
    )
    _load_weights(dense, folder)
    return dense


def read_layer_norm(folder: Path) -> LayerNorm:
    """Read a LayerNorm module.

    Raises:
        ModelError: when its size or its weights are missing, or do not fit each other.
    """
    dimension = read_json(folder / "config.json").get("dimension")
    if not isinstance(dimension, int):
        raise ModelError(f"{folder / 'config.json'}: dimension is {dimension!r}, expected a number of values")
    norm = LayerNorm(dimension)
    _load_weights(norm, folder)
    return norm


def read_normalize(folder: Path) -> Normalize:
    """Read a Normalize module, which may have no files.

    Raises:
        ModelError: when it works on token vectors.
    """
    _check_one_vector(folder, read_json(folder / "config.json"))
    return Normalize()


def _check_one_vector(folder: Path, config: dict[str, Any]) -> None:
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in {None, ONE_VECTOR}:
            raise refuse(folder / "config.json", name, config[name], f'only "{ONE_VECTOR}" is')


def _load_weights(module: nn.Module, folder: Path) -> None:
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: no {WEIGHTS} (pickled weights are not read)")
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ModelError(
            f"{folder}: {WEIGHTS} does not fit config.json: {' '.join(str(error).split())[:300]}"
        ) from error


MODULE_TYPES: dict[type[nn.Module], str] = {
    Pooling: "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    Dense: "sentence_transformers.base.modules.dense.Dense",
    LayerNorm: "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
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
    similarity: str | None,
) -> None:
    """Write everything of a sentence-transformers folder except the transformer and its tokenizer.

    Raises:
        ModelError: when vectors are changed after they were truncated, which the format cannot express.
    """
    truncated = [place for place, module in enumerate(modules) if isinstance(module, Truncate)]
    settings: dict[str, Any] = {
        "prompts": prompts,
        "default_prompt_name": default_prompt,
        "similarity_fn_name": similarity or "cosine",
    }
    if truncated:
        if truncated != [len(modules) - 1]:
            raise ModelError(
                f"{folder}: the model changes vectors after it truncates them, which sentence-transformers' format cannot "
                "express: load it without `normalize` and save it again"
            )
        last = modules.pop()
        assert isinstance(last, Truncate)
        settings["truncate_dim"] = last.dimension
    entries = [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER_TYPE}]
    for number, module in enumerate(modules, start=1):
        path = f"{number}_{type(module).__name__}"
        entries.append({"idx": number, "name": str(number), "path": path, "type": MODULE_TYPES[type(module)]})
        place = folder / path
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "config.json").write_text(json.dumps(_config_of(module), indent=2))
        weights = {name: tensor.detach().cpu().float().contiguous() for name, tensor in module.state_dict().items()}
        if weights:
            save_file(weights, place / WEIGHTS)
    (folder / "modules.json").write_text(json.dumps(entries, indent=2))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": max_seq_length, "do_lower_case": do_lower_case})
    )
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2))


def _config_of(module: nn.Module) -> dict[str, Any]:
    """Return the content of a module's config.json."""
    if isinstance(module, Pooling):
        modes = [mode.value for mode in module.modes]
        return {
            "embedding_dimension": module.hidden_size,
            "pooling_mode": modes[0] if len(modes) == 1 else modes,
            "include_prompt": module.include_prompt,
        }
    if isinstance(module, Dense):
        return {
            "in_features": module.in_features,
            "out_features": module.out_features,
            "bias": module.linear.bias is not None,
            "activation_function": module.activation_name,
            **({"use_residual": True} if module.use_residual else {}),
        }
    return {"dimension": module.dimension} if isinstance(module, LayerNorm) else {}
