"""The choice of the type that an encoder computes in: the fastest whose vectors are those of float32."""

import logging
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from sbert.encoder.engine.dtype import DTYPE_VARIABLE, ComputeDtype, fastest_dtypes
from sbert.encoder.engine.runner_selection import MIN_PROBE_COSINE, SelectedRunner, why_no_integers
from sbert.encoder.pretrained import EncoderParts

__all__ = ["build_in_fastest_type"]

log = logging.getLogger(__name__)


class _Encoder(Protocol):
    """An encoder that selects its runner itself."""

    @property
    def selected_runner(self) -> SelectedRunner: ...


Encoder = TypeVar("Encoder", bound=_Encoder)


def build_in_fastest_type(
    name: str,
    load: Callable[[], EncoderParts],
    build: Callable[[EncoderParts, ComputeDtype], Encoder],
    device: torch.device,
    compute_dtype: ComputeDtype | None,
) -> Encoder:
    """Build an encoder in the type that was asked for, or in the first type for the device that serves it.

    A type that was asked for is used whatever its vectors are; the log then says how they differ.

    Args:
        name: the model, as the log calls it.
        load: loads the parts; it is called once for each type that is tried, since an encoder changes its weights.
        build: puts an encoder together.
        device: where it computes.
        compute_dtype: the type that was asked for; None to choose one.
    """
    is_named = compute_dtype is not None or bool(os.environ.get(DTYPE_VARIABLE))
    parts: EncoderParts | None = None
    for dtype in fastest_dtypes(device) if compute_dtype is None else [compute_dtype]:
        parts = parts or load()
        is_int8 = dtype is ComputeDtype.INT8
        # Where nobody named the type, integers are taken only where the kernels compute them.
        if is_int8 and compute_dtype is None and why_no_integers(parts.transformer, needs_kernels=not is_named):
            continue
        encoder = build(parts, dtype)
        if dtype is ComputeDtype.FLOAT32:
            break
        parts = None
        selected = encoder.selected_runner
        outcome = "another type is used" if compute_dtype is None else f"{dtype} is used because it was asked for"
        if selected.probe_cosine < MIN_PROBE_COSINE:
            text = "%s computes other vectors in %s than in float32 (lowest cosine %.5f on a probe, %s is needed): %s"
            log.warning(text, name, dtype, selected.probe_cosine, MIN_PROBE_COSINE, outcome)
        elif is_int8 and selected.name in ({"padded"} if is_named else {"packed", "padded"}):
            outcome = outcome if compute_dtype is None else "its own forward pass, which knows no integers, is used"
            log.warning("%s cannot compute in int8 (%s): %s", name, selected.reason, outcome)
        else:
            break
    return encoder
