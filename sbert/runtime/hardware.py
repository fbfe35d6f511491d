"""The hardware of this machine: threads for torch, units for 16-bit floats, an accelerator."""

import os

import torch

from sbert.runtime.cpus import available_cpus, processor_vendor

__all__ = ["cpu_features", "default_device", "has_fast_bfloat16", "has_units", "limit_threads", "use_available_cpus"]


def use_available_cpus() -> int:
    """Let torch compute with as many threads as there are processors, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() != available_cpus():
        torch.set_num_threads(available_cpus())
    return torch.get_num_threads()


def limit_threads() -> None:
    """Keep torch from computing with more threads than there are processors; fewer, as an application has chosen, stay."""
    if torch.get_num_threads() > available_cpus():
        use_available_cpus()


def cpu_features() -> dict[str, bool]:
    """Return the units for matrix products that this processor has."""
    cpu = torch.cpu
    return {
        "amx_bf16": bool(cpu._is_amx_tile_supported()),
        "avx512_bf16": bool(cpu._is_avx512_bf16_supported()),
        "avx512_vnni": bool(cpu._is_vnni_supported()),
        "avx512": bool(cpu._is_avx512_supported()),
        "avx2": bool(cpu._is_avx2_supported()),
    }


def default_device() -> torch.device:
    """Return CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes matrix products faster in bfloat16 than in float32.

    CUDA does from Ampere on, and so do processors with AMX, and those with AVX512-BF16 that are not Intel's. An instruction
    of AVX512-BF16 takes an Intel Xeon four times as long as one in float32, and does twice the work.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    features = cpu_features()
    if features["amx_bf16"] and _is_allowed("AMX"):
        return True
    return features["avx512_bf16"] and _is_allowed("BF16", "FP16", "AMX") and processor_vendor() != "GenuineIntel"


def has_units(name: str) -> bool:
    """Return whether the processor has units of a name of `ALL_UNITS`, such as ``avx512_vnni``, and limits allow them.

    Limits are those that the environment sets for oneDNN and for torch.
    """
    features = cpu_features()
    bfloat16 = features["avx512_bf16"] and _is_allowed("BF16", "FP16", "AMX")
    wide = (
        features["avx512"]
        and _is_allowed("AVX512")
        and os.environ.get("ATEN_CPU_CAPABILITY") not in {"avx2", "default"}
    )
    return {
        "amx": bfloat16 and features["amx_bf16"] and _is_allowed("AMX"),
        "avx512_vnni": wide and features["avx512_vnni"] and _is_allowed("VNNI", "BF16", "FP16", "AMX"),
        "avx512_bf16": wide and bfloat16,
        "avx512": wide,
        "avx2": features["avx2"] and _is_allowed("AVX"),
    }[name]


def _is_allowed(*words: str) -> bool:
    """Return whether the environment sets no limit on oneDNN's instructions, or one that allows any of the words."""
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    return not limit or any(word in limit for word in (*words, "AVX10", "DEFAULT", "ALL"))
