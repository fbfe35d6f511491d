"""Copies to an accelerator and back that nobody waits for until their values are needed.

The one idea: what is copied lies in page-locked memory, so that the device fetches and delivers it in its own time, in the
order of its work.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["send_home", "to_device"]


def to_device(array: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    """Copy whole numbers to the device, as int64."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def send_home(values: Tensor) -> Callable[[], Tensor]:
    """Begin to copy values to the CPU's memory; what is given back waits until they are there, and gives them."""
    if values.device.type != "cuda":
        return values.cpu
    home = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    home.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def arrive() -> Tensor:
        arrived.synchronize()
        return home

    return arrive
