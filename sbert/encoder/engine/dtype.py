"""The type that an encoder computes in, and the types that a machine has units for."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from sbert.errors import SettingsError

if TYPE_CHECKING:  # settings and plans name a type without importing torch
    import torch

__all__ = ["DTYPE_VARIABLE", "ComputeDtype", "dtypes_with_units", "fastest_dtypes", "value_dtype", "why_dtype"]

DTYPE_VARIABLE = "SBERT_COMPUTE_DTYPE"
"""Environment variable for the type. A setting and a table's own type come before it."""


class ComputeDtype(StrEnum):
    """The type that the transformer computes in. Pooling and normalization are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    """Products are of integers, most of 8 bits (`sbert.encoder.engine.rounding`); everything else is in float32."""


def fastest_dtypes(device: "torch.device") -> tuple[ComputeDtype, ...]:
    """Return the types to try on a device, the best first: that of `DTYPE_VARIABLE`, or those that the device has units for.

    Raises:
        SettingsError: when `DTYPE_VARIABLE` is set to something that is not a type.
    """
    wanted = os.environ.get(DTYPE_VARIABLE)
    if not wanted:
        return dtypes_with_units(device)
    if wanted not in set(ComputeDtype):
        raise SettingsError(f"{DTYPE_VARIABLE} is {wanted!r}, expected one of {', '.join(ComputeDtype)}")
    if wanted == ComputeDtype.INT8:  # not every encoder can compute in it
        return tuple(dict.fromkeys([ComputeDtype.INT8, *dtypes_with_units(device)]))
    return tuple(dict.fromkeys([ComputeDtype(wanted), ComputeDtype.FLOAT32]))


def dtypes_with_units(device: "torch.device") -> tuple[ComputeDtype, ...]:
    """Return the types in which a device is fast, the fastest first, float32 last."""
    from sbert.runtime.hardware import has_fast_bfloat16, has_units

    dtypes = [ComputeDtype.FLOAT32]
    if has_fast_bfloat16(device):
        dtypes.insert(0, ComputeDtype.BFLOAT16)
    elif device.type == "cuda":
        dtypes.insert(0, ComputeDtype.FLOAT16)
    if device.type == "cpu" and has_units("avx512_vnni") and not has_units("amx"):
        dtypes.insert(0, ComputeDtype.INT8)
    return tuple(dtypes)


def value_dtype(dtype: ComputeDtype) -> "torch.dtype":
    """Return torch's type for the weights and values of an encoder that computes in `dtype`."""
    import torch

    kept: torch.dtype = torch.float32 if dtype is ComputeDtype.INT8 else getattr(torch, dtype.value)
    return kept


def why_dtype(device: "torch.device", dtype: ComputeDtype, why_no_integers: str | None) -> str:
    """Return, for people, why an encoder computes in a type that nobody asked for.

    `why_no_integers` says why the encoder cannot compute in 8-bit integers here.
    """
    wanted, *others = fastest_dtypes(device)
    is_named = bool(os.environ.get(DTYPE_VARIABLE))
    if is_named and dtype is wanted:
        return f"{DTYPE_VARIABLE} says so"
    if wanted is ComputeDtype.INT8 and dtype is not wanted and why_no_integers is not None:
        if is_named:
            return f"{DTYPE_VARIABLE} says int8, but the encoder cannot compute in it: {why_no_integers}"
        wanted = others[0]
    if dtype is not wanted:
        return f"{wanted} gives other vectors than float32 on the probe"
    return {
        ComputeDtype.INT8: f"{device.type} has units for products of 8-bit integers",
        ComputeDtype.BFLOAT16: f"{device.type} has units for products in bfloat16",
        ComputeDtype.FLOAT16: f"{device.type} has units for products in float16, not in bfloat16",
        ComputeDtype.FLOAT32: f"{device.type} has no units that make bfloat16 faster and may be used",
    }[dtype]
