"""Hash of everything that decides an encoder's vectors."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["hash_encoder"]

FORMAT = 1
"""Raised when this library would compute other vectors from the same model than before."""


def hash_encoder(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """Give 64 hex digits that change when a weight or a fact does, and with nothing else (SHA-256).

    Args:
        tensors: the weights by name, as stored (before any conversion to the compute dtype).
        facts: JSON-able settings: tokenizer, pooling, lengths, dtype.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True, ensure_ascii=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
