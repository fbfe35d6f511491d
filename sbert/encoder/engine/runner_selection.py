"""Select the runner of an encoder, and prove it before it is used.

Each runner encodes a probe of very different texts, and its vectors are compared with the vectors of plain float32. A
runner whose vectors differ is not used, and the log says so.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.native import NativeRunner, type_of, why_kernels_cannot
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.padded import PaddedRunner
from sbert.encoder.engine.proven_runner import ProvenRunner
from sbert.encoder.engine.rounding import why_no_rounding
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.varlen import VarlenRunner, why_varlen_cannot
from sbert.encoder.engine.weights import EncoderWeights, RoundedLayer, read_weights
from sbert.encoder.pooling import Pooling
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import ModelError
from sbert.vectors.checks import PROBE_TEXTS

__all__ = [
    "MIN_PROBE_COSINE",
    "PROBE",
    "Runner",
    "SelectedRunner",
    "make_proven_runner",
    "run_all",
    "select_runner",
    "why_no_integers",
]

log = logging.getLogger(__name__)

MIN_PROBE_COSINE = 0.999
"""Lowest accepted cosine between a runner's vector of a probe text and the plain float32 vector of that text."""
PROBE = (*PROBE_TEXTS, " ".join(PROBE_TEXTS), " ".join(reversed(PROBE_TEXTS * 4)))
"""Short and long texts, so that rows of several widths are tried."""


class Runner(Protocol):
    """Cuts tokenized texts into batches, and computes a batch."""

    sharing: Sharing
    """The ways in which the cores of a CPU may share its work."""

    def cut(
        self, tokens: TokenizedTexts, sequences: npt.NDArray[np.int64], token_budget: int, num_at_once: int = 1
    ) -> Iterator[Any]:
        """Yield batches, each with the numbers of its ``sequences``; `num_at_once` of them are computed at once."""
        ...

    def run(self, tokens: TokenizedTexts, batch: Any) -> Tensor:
        """Return the vectors of a batch in the order of its ``sequences``, shape (B, dim), float32, on the device."""
        ...


@dataclass(frozen=True)
class SelectedRunner:
    """The runner of an encoder, with the outcome of its proof."""

    runner: Runner
    name: str
    """``native``, ``varlen``, ``packed`` or ``padded``."""
    probe_cosine: float
    """Lowest cosine to plain float32 over the probe texts."""
    reason: str
    """The reason why it was selected, for people."""


def run_all(runner: Runner, tokens: TokenizedTexts, dim: int, token_budget: int) -> npt.NDArray[np.float32]:
    """Return the vectors of all sequences, shape (S, dim)."""
    vectors_SD = np.empty((len(tokens.lengths), dim), dtype=np.float32)
    with torch.inference_mode():
        for batch in runner.cut(tokens, np.arange(len(vectors_SD)), token_budget):
            vectors_SD[batch.sequences] = runner.run(tokens, batch).cpu().numpy()
    return vectors_SD


def select_runner(
    forward: Callable[[Tensor, Tensor | None, int], Tensor],
    transformer: nn.Module,
    pooling: Pooling,
    layers: nn.ModuleList,
    *,
    pad_id: int,
    dim: int,
    probe: TokenizedTexts,
    reference_SD: npt.NDArray[np.float32] | None,
    token_budget: int,
    rounded: tuple[RoundedLayer, ...] | None = None,
) -> SelectedRunner:
    """Return the fastest runner that gives the right vectors.

    Args:
        forward: the encoder's own forward pass.
        transformer: the Hugging Face encoder, on its device and in its type.
        pooling: turns token vectors into one vector.
        layers: the modules after pooling.
        pad_id: the padding token.
        dim: values of a vector.
        probe: `PROBE`, tokenized.
        reference_SD: plain float32 vectors of the probe; None to compare with the encoder's own forward pass.
        token_budget: tokens of a batch.
        rounded: the weights in 8-bit integers, to compute in them; None to compute in the transformer's type.
    """
    parameter = next(transformer.parameters())
    padded = PaddedRunner(forward, pad_id=pad_id, device=parameter.device)
    plain_SD = run_all(padded, probe, dim, token_budget)
    reference_SD = plain_SD if reference_SD is None else reference_SD
    plain_cosine = lowest_cosine(plain_SD, reference_SD)
    weights = _weights(transformer, rounded)
    if weights is None:
        kind = getattr(transformer.config, "model_type", type(transformer).__name__)
        return SelectedRunner(padded, "padded", plain_cosine, f"{kind} is not of the BERT family")
    reason = "BERT family"
    for name in FAST_RUNNERS if parameter.device.type == "cpu" else FAST_ACCELERATOR_RUNNERS:
        why_not = WHY_NOT[name](weights) if name in WHY_NOT else None
        cosine = 0.0
        if why_not is None:
            runner = make_runner(name, weights, pooling, layers, pad_id)
            try:
                cosine = lowest_cosine(run_all(runner, probe, dim, token_budget), reference_SD)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                log.warning("the %s runner does not work here and is not used: %s", name, str(error).splitlines()[0])
                why_not = "it failed on the probe"
        if why_not is None and cosine < MIN_PROBE_COSINE:
            text = "the %s runner gives other vectors (lowest cosine %.5f on the probe, %.3f is needed) and is not used"
            log.warning(text, name, cosine, MIN_PROBE_COSINE)
            why_not = f"it failed the probe (cosine {cosine:.5f})"
        if why_not is None:
            return SelectedRunner(runner, name, cosine, f"{reason}: {describe(name, weights)}")
        reason += f", not {name} ({why_not})"
    return SelectedRunner(padded, "padded", plain_cosine, reason)


def make_proven_runner(
    proven: ProvenRunner,
    transformer: nn.Module,
    pooling: Pooling,
    layers: nn.ModuleList,
    *,
    rounded: tuple[RoundedLayer, ...] | None,
    pad_id: int,
) -> SelectedRunner:
    """Return a runner that was proven before, for weights that are `rounded` or not.

    Raises:
        ModelError: when the transformer is not of the BERT family.
    """
    weights = _weights(transformer, rounded)
    if weights is None:
        raise ModelError(f"the {proven.name} runner computes encoders of the BERT family, and this encoder is none")
    runner = make_runner(proven.name, weights, pooling, layers, pad_id)
    return SelectedRunner(runner, proven.name, proven.probe_cosine, proven.reason)


def why_no_integers(transformer: nn.Module, *, needs_kernels: bool = True) -> str | None:
    """Return why an encoder cannot compute in 8-bit integers, by kernels if it `needs_kernels`; None when it can."""
    weights = read_weights(transformer)
    if weights is None:
        return "it is not of the BERT family"
    why_not = why_no_rounding(weights)
    if why_not is not None or not needs_kernels:
        return why_not
    why_not = why_kernels_cannot(weights)
    if why_not is not None:
        return why_not
    kernels = load_kernels(ComputeDtype.INT8)
    return None if kernels.library is not None else kernels.reason


def _weights(transformer: nn.Module, rounded: tuple[RoundedLayer, ...] | None) -> EncoderWeights | None:
    weights = read_weights(transformer)
    return weights and replace(weights, rounded=rounded)


def why_no_kernels(weights: EncoderWeights) -> str | None:
    """Return why compiled kernels cannot compute an encoder on this machine; None when they can."""
    why_not = why_kernels_cannot(weights)
    if why_not is not None:
        return why_not  # do not compile kernels that the encoder cannot use
    kernels = load_kernels(type_of(weights))
    return None if kernels.library is not None else kernels.reason


FAST_RUNNERS = ("native", "packed")
FAST_ACCELERATOR_RUNNERS = ("varlen", "packed")
"""Runners to try, the fastest first."""
WHY_NOT: dict[str, Callable[[EncoderWeights], str | None]] = {
    "native": why_no_kernels,
    "varlen": why_varlen_cannot,
}
"""Functions that say why a runner cannot compute an encoder of the family; others can compute every one."""


def describe(name: str, weights: EncoderWeights) -> str:
    """Return, for people, how a runner computes."""
    if name == "packed":
        return "packed tokens, fused operations"
    if name == "varlen":
        return "tokens without padding, variable-length attention"
    units = load_kernels(type_of(weights)).units
    assert units is not None
    return f"compiled kernels for {units.needs}"


def make_runner(
    name: str, weights: EncoderWeights, pooling: Pooling, layers: nn.ModuleList, pad_id: int
) -> NativeRunner | PackedRunner:
    """Return the ``native``, ``varlen`` or ``packed`` runner of an encoder of the BERT family."""
    if name in {"packed", "varlen"}:
        kind = PackedRunner if name == "packed" else VarlenRunner
        return kind(weights, pooling, layers, pad_id=pad_id, device=weights.words.device)
    return NativeRunner(load_kernels(type_of(weights)), weights, pooling, layers)


def lowest_cosine(vectors_SD: npt.NDArray[np.float32], reference_SD: npt.NDArray[np.float32]) -> float:
    """Return the lowest cosine between vectors and their references; references that are zero or not finite count as 1."""
    left, right = vectors_SD.astype(np.float64), reference_SD.astype(np.float64)
    product = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    comparable = np.isfinite(right).all(axis=1) & (np.linalg.norm(right, axis=1) > 0)
    if not comparable.any():
        return 1.0  # nothing to compare with; load_encoder refuses such an encoder
    cosines = np.nan_to_num((left * right).sum(axis=1)[comparable] / np.maximum(product[comparable], 1e-12), nan=-1.0)
    return float(cosines.min())
