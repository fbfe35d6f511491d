"""The type that an encoder computes in, and the choice of one for a machine."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from sbert.errors import SettingsError

if TYPE_CHECKING:  # settings and plans name a type without importing torch
    import torch

__all__ = ["DTYPE_VARIABLE", "ComputeDtype", "fastest_dtype", "why_dtype"]

DTYPE_VARIABLE = "SBERT_COMPUTE_DTYPE"
"""Environment variable for the type. A setting and a table's own type come before it."""


class ComputeDtype(StrEnum):
    """The type that the transformer computes in. Pooling and normalization are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def fastest_dtype(device: "torch.device") -> ComputeDtype:
    """Return bfloat16 if the device has units for it, float16 for older CUDA devices, else float32.

    Raises:
        SettingsError: when `DTYPE_VARIABLE` is set to something that is not a type.
    """
    wanted = os.environ.get(DTYPE_VARIABLE)
    if wanted:
        if wanted not in set(ComputeDtype):
            raise SettingsError(f"{DTYPE_VARIABLE} is {wanted!r}, expected one of {', '.join(ComputeDtype)}")
        return ComputeDtype(wanted)
    from sbert.runtime.hardware import has_fast_bfloat16

    if has_fast_bfloat16(device):
        return ComputeDtype.BFLOAT16
    return ComputeDtype.FLOAT16 if device.type == "cuda" else ComputeDtype.FLOAT32


def why_dtype(device: "torch.device", dtype: ComputeDtype) -> str:
    """Return, for people, why an encoder computes in a type that nobody asked for."""
    wanted = fastest_dtype(device)
    if dtype is not wanted:
        return f"{wanted} gives other vectors than float32 on the probe"
    if os.environ.get(DTYPE_VARIABLE):
        return f"{DTYPE_VARIABLE} says so"
    return {
        ComputeDtype.BFLOAT16: f"{device.type} has units for products in bfloat16",
        ComputeDtype.FLOAT16: f"{device.type} has units for products in float16, not in bfloat16",
        ComputeDtype.FLOAT32: f"{device.type} has no units for products in bfloat16 that may be used",
    }[dtype]
