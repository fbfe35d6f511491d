"""The units of processors that the kernels (`kernels/`) are compiled for, fastest first, and the choice for this machine.

One source serves all of them. The compiler's options choose registers and products, and the layout of weights follows.
"""

import os
from dataclasses import dataclass

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.errors import SettingsError
from sbert.runtime.hardware import has_units

__all__ = ["ALL_UNITS", "NATIVE_VARIABLE", "ProcessorUnits", "units_here"]

NATIVE_VARIABLE = "SBERT_NATIVE"
"""Environment variable: with 0 the compiled kernels are not used; with a name of units only their kernels are."""


@dataclass(frozen=True)
class ProcessorUnits:
    """The units of a processor that compute products, and the kernels for them."""

    name: str
    dtype: ComputeDtype
    """The type of values that they multiply."""
    options: tuple[str, ...]
    """What the compiler needs to know. The same on every machine, so that machines may share a cache."""
    panel: int
    """Outputs that the weights hold beside each other."""
    has_tiles: bool = False
    """Whether the weights have the layout of AMX."""
    group_tokens: int = 512
    """Tokens that go through all layers together, so that their activations stay in the core's cache."""

    @property
    def needs(self) -> str:
        """Return, for people, the units that a processor needs."""
        return {
            "amx": "AMX",
            "avx512_vnni": "AVX512-VNNI",
            "avx512_bf16": "AVX512-BF16",
            "avx512": "AVX-512",
            "avx2": "AVX2",
        }[self.name]


AVX512 = ("-march=x86-64-v4",)
BFLOAT16 = (*AVX512, "-mavx512bf16")
ALL_UNITS = (
    ProcessorUnits(
        "amx",
        ComputeDtype.BFLOAT16,
        (*BFLOAT16, "-mamx-tile", "-mamx-bf16"),
        panel=32,
        has_tiles=True,
        group_tokens=384,
    ),
    ProcessorUnits("avx512_vnni", ComputeDtype.INT8, (*AVX512, "-mavx512vnni"), panel=32, group_tokens=256),
    ProcessorUnits("avx512_bf16", ComputeDtype.BFLOAT16, BFLOAT16, panel=32),
    ProcessorUnits("avx512", ComputeDtype.FLOAT32, AVX512, panel=32, group_tokens=256),
    ProcessorUnits("avx2", ComputeDtype.FLOAT32, ("-march=x86-64-v3",), panel=16, group_tokens=256),
)


def units_here(dtype: ComputeDtype) -> ProcessorUnits | None:
    """Return the fastest units of this processor for a type, or None when it has none that may be used.

    Raises:
        SettingsError: when `NATIVE_VARIABLE` names units that do not exist.
    """
    wanted = os.environ.get(NATIVE_VARIABLE) or "1"
    names = [units.name for units in ALL_UNITS]
    if wanted not in {"0", "1", *names}:
        raise SettingsError(f"{NATIVE_VARIABLE} is {wanted!r}, expected 0, 1, {', '.join(names)}")
    allowed = [units for units in ALL_UNITS if units.dtype is dtype and wanted in {"1", units.name}]
    return next((units for units in allowed if has_units(units.name)), None)
