"""Put the parts of an encoder together from a model folder: transformer, tokenizer, pooling, layers and settings."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sbert.encoder.model_folder import read_folder
from sbert.encoder.model_location import locate_model
from sbert.encoder.modules import Dense, LayerNorm, Normalize, Truncate
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.transformer import load_transformer, position_limit
from sbert.errors import ModelError, SettingsError

__all__ = ["EncoderParts", "load_parts", "output_dim"]

MAX_LENGTH_WITHOUT_LIMIT = 512
"""Tokens of a text where neither the folder, the tokenizer nor the architecture has a limit."""
UNLIMITED = 1_000_000
"""Tokenizers write a huge number when they have no limit."""


@dataclass(frozen=True)
class EncoderParts:
    """The arguments of `SentenceEncoder` that a model folder decides, under the same names."""

    transformer: nn.Module
    tokenizer: Any
    pooling: Pooling
    layers: list[nn.Module]
    max_seq_length: int
    do_lower_case: bool
    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity: str | None


def load_parts(
    model: str | os.PathLike[str],
    *,
    max_seq_length: int | None,
    normalize: bool | None,
    load: Callable[[Path], tuple[nn.Module, Any]] = load_transformer,
) -> EncoderParts:
    """Load the parts of an encoder.

    Args:
        model: local folder, URI of a folder in object storage, hub id, or the packaged default.
        max_seq_length: tokens after which a text is truncated; None for the model's own limit.
        normalize: whether the vectors shall have unit length; None for what the model says.
        load: returns the transformer and the tokenizer of a folder.

    Raises:
        ModelError: when the model cannot be found or loaded whole and safely, or its parts do not fit each other.
        SettingsError: when `max_seq_length` is out of the model's range.
    """
    name = os.fspath(model)
    folder = read_folder(locate_model(model))
    transformer, tokenizer = load(folder.transformer)
    config: Any = transformer.config
    hidden_size = int(config.hidden_size)
    pooling = folder.pooling or Pooling(hidden_size, (_default_pooling(name, config, tokenizer),))
    if pooling.hidden_size != hidden_size:
        raise ModelError(
            f"{name}: pooling takes {pooling.hidden_size} values, but the transformer gives {hidden_size}: the folder mixes "
            "files of two models"
        )
    return EncoderParts(
        transformer=transformer,
        tokenizer=tokenizer,
        pooling=pooling,
        layers=_fit_layers(name, pooling.dim, folder.layers, normalize),
        max_seq_length=_length_limit(name, folder.text.max_seq_length, max_seq_length, tokenizer, config),
        do_lower_case=folder.text.do_lower_case,
        prompts=folder.settings.prompts,
        default_prompt_name=folder.settings.default_prompt_name,
        similarity=folder.settings.similarity_fn_name,
    )


def output_dim(pooling: Pooling, layers: Sequence[nn.Module]) -> int:
    """Return the number of values in a vector after pooling and layers."""
    dim = pooling.dim
    for layer in layers:
        if isinstance(layer, Dense):
            dim = layer.out_features
        elif isinstance(layer, Truncate):
            dim = min(dim, layer.dimension)
    return dim


def _default_pooling(name: str, config: Any, tokenizer: Any) -> PoolingMode:
    """Return the pooling of a folder without modules.json, by the rule of sentence-transformers.

    A causal language model is pooled by its last token, which alone has seen the whole text.
    """
    if getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{name}: has a chat template and no modules.json, so it does not say how a text becomes a vector: use a model "
            "in sentence-transformers' format"
        )
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    is_causal = architecture.endswith("ForCausalLM") and getattr(config, "is_causal", True)
    return PoolingMode.LAST if is_causal else PoolingMode.MEAN


def _fit_layers(name: str, dim: int, layers: Sequence[nn.Module], normalize: bool | None) -> list[nn.Module]:
    """Return the layers, with or without normalization at their end; a normalization between layers stays.

    Raises:
        ModelError: when a layer does not take as many values as the one before gives.
    """
    fitted: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, Truncate) and layer.dimension >= dim:
            continue  # there is nothing to cut off
        takes = (
            layer.in_features if isinstance(layer, Dense) else layer.dimension if isinstance(layer, LayerNorm) else dim
        )
        if takes != dim:
            raise ModelError(f"{name}: {type(layer).__name__} takes {takes} values, the module before it gives {dim}")
        fitted.append(layer)
        dim = (
            layer.out_features if isinstance(layer, Dense) else layer.dimension if isinstance(layer, Truncate) else dim
        )
    while normalize is False and fitted and isinstance(fitted[-1], Normalize):
        fitted.pop()
    if normalize and not (fitted and isinstance(fitted[-1], Normalize)):
        fitted.append(Normalize())
    return fitted


def _length_limit(name: str, own: int | None, asked: int | None, tokenizer: Any, config: Any) -> int:
    """Return the tokens after which a text is truncated: as asked for, else the model's own limit.

    Raises:
        SettingsError: when more tokens are asked for than the transformer has positions for.
    """
    limit = position_limit(config)
    own = own or tokenizer.model_max_length
    if own > UNLIMITED:
        own = limit or MAX_LENGTH_WITHOUT_LIMIT
    length = asked or min(own, limit or own)
    if limit is not None and length > limit:
        raise SettingsError(f"max_seq_length is {length}, but {name} takes at most {limit} tokens: set {limit} or less")
    return length
