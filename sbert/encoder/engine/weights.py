"""Read the weights of the BERT family by role: BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT and MPNet.

The architectures differ in the names of their tensors, in the first position, and in MPNet's relative positions. The
computation is the same (Devlin et al. 2019; post-layer-norm transformer encoder).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sbert.encoder.engine.linear import ACTIVATIONS

__all__ = [
    "EncoderWeights",
    "LayerWeights",
    "Norm",
    "RoundedLayer",
    "RoundedWeight",
    "read_weights",
    "weights_version",
]

Norm = tuple[Tensor, Tensor]
"""Scale and shift of a layer norm."""


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer, of shape (out, in)."""

    qkv: tuple[Tensor, Tensor]
    """Query, key and value, as one linear layer of 3 H outputs."""
    out: tuple[Tensor, Tensor]
    attention_norm: Norm
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    output_norm: Norm


@dataclass(frozen=True)
class RoundedWeight:
    """The weight of a linear layer in integers (`sbert.encoder.engine.rounding`)."""

    integers_OI: Tensor
    """Rotated, shape (out, in); int8, or int16 for values of attention."""
    scales_OG: Tensor
    """float32, one for each output and group of inputs."""


@dataclass(frozen=True)
class RoundedLayer:
    """The rounded weights of one layer."""

    query_key: RoundedWeight
    values: RoundedWeight
    out: RoundedWeight
    up: RoundedWeight
    down: RoundedWeight


@dataclass(frozen=True)
class EncoderWeights:
    """The weights of a whole encoder."""

    words: Tensor
    """Word embeddings, shape (vocabulary, H)."""
    positions: Tensor
    """The vectors to add at place 0, 1, … of a sequence: position plus first token type, shape (places, H)."""
    embedding_norm: Norm
    layers: list[LayerWeights]
    num_heads: int
    norm_eps: float
    activation: str
    relative_bias: Callable[[int], Tensor] | None
    """MPNet: returns the values to add to attention scores in a row of a given width, shape (1, heads, width, width)."""
    rounded: tuple[RoundedLayer, ...] | None = None
    """The weights of the layers in integers, when the encoder computes in int8."""


@dataclass(frozen=True)
class _Names:
    """The names that an architecture has for the parts of a layer."""

    layer: str
    qkv: tuple[str, str, str]
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str


BERT_LIKE = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
BERT_NAMES = _Names(
    layer="encoder.layer.{}.",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)
NAMES = {
    "mpnet": replace(
        BERT_NAMES,
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        attention_norm="attention.LayerNorm",
    ),
    "distilbert": _Names(
        layer="transformer.layer.{}.",
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        output_norm="output_layer_norm",
    ),
}


def read_weights(transformer: nn.Module) -> EncoderWeights | None:
    """Return the weights of an encoder by role, or None when its architecture is not of the family."""
    config: Any = transformer.config
    kind = str(config.model_type)
    activation = str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))
    usual = (
        activation in ACTIVATIONS
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") in {None, "absolute"}
    )
    if not usual or kind not in BERT_LIKE | {"distilbert", "mpnet"}:
        return None
    state = {name: tensor.detach() for name, tensor in transformer.state_dict().items()}
    try:
        return _read(transformer, state, kind, activation)
    except KeyError:
        return None  # a variant whose tensors are not those of its model_type


def weights_version(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return a key that changes with the weights, by training or by a move to another device."""
    return tuple((parameter.data_ptr(), parameter._version) for parameter in _parameters(module))


def _parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters, shared ones repeatedly. ``module.parameters()`` takes as long as a short text (0.15 ms)."""
    yield from (parameter for parameter in module._parameters.values() if parameter is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _parameters(child)


def _read(transformer: nn.Module, state: dict[str, Tensor], kind: str, activation: str) -> EncoderWeights:
    config: Any = transformer.config
    positions = state["embeddings.position_embeddings.weight"]
    if kind not in {"bert", "distilbert"}:
        # These architectures number positions from the padding id on.
        first = int(config.pad_token_id if kind != "mpnet" else 1) + 1
        positions = positions[first:]
    if "embeddings.token_type_embeddings.weight" in state:
        positions = positions + state["embeddings.token_type_embeddings.weight"][0]
    num_layers = int(config.num_hidden_layers)
    names = NAMES.get(kind, BERT_NAMES)
    return EncoderWeights(
        words=state["embeddings.word_embeddings.weight"],
        positions=positions.contiguous(),
        embedding_norm=_pair(state, "embeddings.LayerNorm"),
        layers=[_layer(state, names, number) for number in range(num_layers)],
        num_heads=int(config.num_attention_heads),
        norm_eps=1e-12 if kind == "distilbert" else float(config.layer_norm_eps),
        activation=activation,
        relative_bias=_relative_bias(transformer) if kind == "mpnet" else None,
    )


def _relative_bias(transformer: Any) -> Callable[[int], Tensor]:
    @cache
    def bias_of(width: int) -> Tensor:
        places = transformer.encoder.relative_attention_bias.weight.new_empty(1, width, 1)
        bias: Tensor = transformer.encoder.compute_position_bias(places)
        return bias

    return bias_of


def _pair(state: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return state[f"{name}.weight"], state[f"{name}.bias"]


def _joined(state: dict[str, Tensor], prefix: str, names: tuple[str, str, str]) -> tuple[Tensor, Tensor]:
    pairs = [_pair(state, prefix + name) for name in names]
    return torch.cat([weight for weight, _ in pairs]), torch.cat([bias for _, bias in pairs])


def _layer(state: dict[str, Tensor], names: "_Names", number: int) -> LayerWeights:
    at = names.layer.format(number)
    return LayerWeights(
        qkv=_joined(state, at, names.qkv),
        out=_pair(state, at + names.out),
        attention_norm=_pair(state, at + names.attention_norm),
        up=_pair(state, at + names.up),
        down=_pair(state, at + names.down),
        output_norm=_pair(state, at + names.output_norm),
    )
