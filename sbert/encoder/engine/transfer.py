"""Asynchronous copies to an accelerator and back.

The copies lie in page-locked memory, so the device reads and writes them itself, in the order of its other work. The
program waits only when it needs the values.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["copy_to_cpu", "to_device"]


def to_device(array: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    """Copy integers to the device, as int64."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def copy_to_cpu(values: Tensor) -> Callable[[], Tensor]:
    """Start to copy values to the CPU's memory. Return a function that waits for the copy and returns it."""
    if values.device.type != "cuda":
        return values.cpu
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait
