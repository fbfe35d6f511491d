"""Freeze the parts of an encoder that are not trained, and set its dropout."""

import re

from torch import nn

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError
from sbert.training.settings import TrainingSettings

__all__ = ["count_parameters", "prepare_encoder"]

EMBEDDINGS = re.compile(r"embeddings|embed_tokens|^shared\.")
"""Names of token embeddings; T5 calls them ``shared``."""
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block)\.(\d+)\.")


def prepare_encoder(encoder: SentenceEncoder, settings: TrainingSettings) -> None:
    """Set dropout and freeze the weights that are not trained. A pooler that vectors do not pass through is always frozen.

    Raises:
        TrainingError: when the transformer has fewer layers than `freeze_layers`.
    """
    if settings.dropout is not None:
        _set_dropout(encoder.transformer, settings.dropout)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    names = dict(encoder.transformer.named_parameters())
    num_layers = 1 + max((int(match[1]) for name in names if (match := LAYER.search(name))), default=-1)
    if settings.freeze == "layers" and settings.freeze_layers > num_layers:
        raise TrainingError(
            f"freeze_layers is {settings.freeze_layers}, but the transformer has {num_layers} layers: choose "
            f"{num_layers} at most"
        )
    for name, parameter in names.items():
        layer = LAYER.search(name)
        frozen = name.startswith("pooler.") or settings.freeze == "all_but_head"
        if settings.freeze in {"embeddings", "layers"} and EMBEDDINGS.search(name):
            frozen = True
        if settings.freeze == "layers" and layer is not None and int(layer[1]) < settings.freeze_layers:
            frozen = True
        if frozen:
            parameter.requires_grad_(False)


def _set_dropout(transformer: nn.Module, rate: float) -> None:
    for module in transformer.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name in ("attention_dropout", "dropout_prob"):  # fused attention stores its rate as a number
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return the number of trained values, and the number of all values."""
    parameters = list(module.parameters())
    return sum(each.numel() for each in parameters if each.requires_grad), sum(each.numel() for each in parameters)
