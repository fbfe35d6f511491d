"""The hash of everything that decides an encoder's vectors."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["hash_encoder"]

FORMAT = 1
"""To be increased when a change of this library changes the vectors of the same model."""


def hash_encoder(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> str:
    """Return 64 hex digits that change when a weight or a setting changes, and only then (SHA-256).

    Args:
        tensors: the weights by name, as stored (before any conversion to the compute dtype).
        settings: tokenizer, pooling, lengths and dtype, as JSON-able values.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True, ensure_ascii=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
