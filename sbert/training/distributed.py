"""Collect the vectors of all processes, so that every text of the global batch is a negative for every other text."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather", "gather_with_gradient", "is_distributed", "wait_for_all"]


def is_distributed() -> bool:
    """Return whether this is one of several training processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def wait_for_all() -> None:
    """Wait until every process is here. Every process must call this at the end of its work.

    A process that exits right after its last collective operation can abort. gloo's threads release the tensors of an
    operation after its result is known, and they need Python's lock for that; an interpreter that shuts down does not give
    it. During this wait they get it.
    """
    if is_distributed():
        dist.barrier()


def gather(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes along the first axis. All must have the same shape."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        context.num_rows = len(tensor)
        return gather(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        # Every process computes the whole loss L and sends its gradient back, so the sum is (processes x dL/dv);
        # DistributedDataParallel then takes the mean over processes of the weights' gradients, which gives dL/dw.
        (gradient,) = gradients
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        first = dist.get_rank() * context.num_rows
        return total[first : first + context.num_rows]


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Concatenate the vectors of all processes. Gradients flow back to the process that each vector came from."""
    return _Gather.apply(tensor)  # type: ignore[no-any-return,no-untyped-call]
