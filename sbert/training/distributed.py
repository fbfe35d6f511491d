"""Vectors of all processes, so that every text of the global batch is a negative for every other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather", "gather_with_gradient", "is_distributed", "wait_for_all"]


def is_distributed() -> bool:
    """Tell whether this is one of several training processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def wait_for_all() -> None:
    """Wait until every process is here; at the end of its work each process must.

    One that left at once after its last collective operation could abort: gloo's threads drop the tensors of an operation
    after its result is known and need Python's lock for it, which a closing interpreter does not give. In this wait they
    have it.
    """
    if is_distributed():
        dist.barrier()


def gather(tensor: Tensor) -> Tensor:
    """Give the tensors of all processes, one after the other along the first axis; all must have the same shape."""
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
    """Give the vectors of all processes; gradients flow back to the process that each came from."""
    return _Gather.apply(tensor)  # type: ignore[no-any-return,no-untyped-call]
