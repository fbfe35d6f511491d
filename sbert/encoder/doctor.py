"""Measure how an encoder computes on this machine, how fast each way is, and why one was selected.

Every way of computing runs in turn over the same texts for a few seconds, and its vectors are compared with those of plain
float32. The selected way should be the fastest of those that give the same vectors.
"""

import math
import os
import platform
import statistics
import time
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.engine.budget import TokenBudget, usual_tokens
from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import DTYPE_VARIABLE, ComputeDtype, dtypes_with_units, why_dtype
from sbert.encoder.engine.runner_selection import (
    MIN_PROBE_COSINE,
    PROBE,
    Runner,
    lowest_cosine,
    run_all,
    why_no_integers,
)
from sbert.encoder.engine.workers import num_workers
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.runtime.cpus import available_cpus
from sbert.runtime.hardware import cpu_features, use_available_cpus

__all__ = ["Diagnosis", "Measured", "diagnose"]

BATCHES = 2
"""Batches for each core. They hold the texts of PROBE several times: 3 to a few hundred tokens each."""


class Measured(BaseModel):
    """One way of computing, measured."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="native, varlen, packed or padded.")
    compute_dtype: ComputeDtype
    tokens_per_second: float = Field(description="Median over the rounds, without tokenizing.")
    least_cosine: float = Field(description="Lowest cosine to plain float32 over the probe texts.")
    chosen: bool = Field(description="Whether this is the way that the encoder computes.")

    @property
    def passes(self) -> bool:
        """Return whether the vectors are close enough to float32 vectors."""
        return self.least_cosine >= MIN_PROBE_COSINE


class Diagnosis(BaseModel):
    """The way an encoder computes on this machine, and the measurements behind it."""

    model_config = ConfigDict(frozen=True)

    model: str
    device: str
    processor: str
    features: dict[str, bool] = Field(description="Whether the processor has each of these units for matrix products.")
    num_cpus: int = Field(description="Processors that the container and the affinity mask let this process use.")
    num_threads: int
    num_batches_at_once: int
    token_budget: int = Field(description="Tokens of a batch, padding included, when there are enough texts.")
    compute_dtype: ComputeDtype
    dtype_reason: str = Field(description="Reason for computing in this type.")
    path: str
    reason: str = Field(description="Reason for this way of computing.")
    kernels: str = Field(description="Whether the compiled kernels are there, or why not.")
    measured: list[Measured]

    @property
    def advice(self) -> str | None:
        """Return a sentence if another way was clearly faster and as accurate as the selected one, else None."""
        selected = next((way for way in self.measured if way.chosen), None)
        good = [way for way in self.measured if way.passes]
        if selected is None or not good:
            return None
        best = max(good, key=lambda way: way.tokens_per_second)
        if best.tokens_per_second < 1.15 * selected.tokens_per_second:
            return None
        ratio = best.tokens_per_second / selected.tokens_per_second
        return (
            f"{best.compute_dtype} ({best.path}) was {ratio:.2f} times as fast as "
            f"the selected way: set {DTYPE_VARIABLE}={best.compute_dtype} for new tables"
        )


@dataclass(frozen=True)
class _Way:
    path: str
    encoder: SentenceEncoder
    runner: Runner
    tokens: TokenizedTexts
    rates: list[float] = field(default_factory=list)

    def run_once(self) -> None:
        """Encode the texts and record the rate."""
        began = time.perf_counter()
        TokenBudget().compute(self.runner, self.tokens, dim=self.encoder.dim, device=self.encoder.device)
        self.rates.append(int(self.tokens.lengths.sum()) / (time.perf_counter() - began))


def diagnose(model: str = DEFAULT_MODEL, *, seconds: float = 10.0) -> Diagnosis:
    """Load a model as a refresh would, and measure the ways of computing it for about `seconds` seconds in all.

    Raises:
        ModelError: when the model cannot be loaded.
    """
    use_available_cpus()
    default = SentenceEncoder.from_pretrained(model)
    why_not_int8 = why_no_integers(default.transformer, needs_kernels=not os.environ.get(DTYPE_VARIABLE))
    usable = dtypes_with_units(default.device)
    others = {dtype for dtype in usable if dtype is not ComputeDtype.INT8 or why_not_int8 is None}
    encoders = [default] + [
        SentenceEncoder.from_pretrained(model, compute_dtype=dtype, device=default.device)
        for dtype in sorted(others - {default.compute_dtype})
    ]
    workers = num_workers(default.device)
    token_budget = usual_tokens(default.device)
    probe = default.tokenize(PROBE)
    tokens = default.tokenize(PROBE * math.ceil(BATCHES * workers * token_budget / int(probe.lengths.sum())))
    ways = [
        _Way("padded", encoder, encoder.plain_runner(), tokens)
        for encoder in encoders
        if encoder.compute_dtype is not ComputeDtype.INT8  # the model's own forward pass knows no integers
    ]
    for encoder in encoders:
        selected = encoder.selected_runner
        packed: Runner | None = selected.runner if selected.name == "packed" else None
        if selected.name in {"native", "varlen"}:
            packed = encoder.packed_runner()
        ways += [_Way("packed", encoder, packed, tokens)] if packed is not None else []
        ways += [_Way(selected.name, encoder, selected.runner, tokens)] if selected.name in {"native", "varlen"} else []
    for way in ways:
        way.run_once()
        way.rates.clear()  # the first round only warms up
    stop = time.monotonic() + seconds
    while not ways[-1].rates or time.monotonic() < stop:
        for way in ways:
            way.run_once()
    plain = next(way for way in ways if way.encoder.compute_dtype is ComputeDtype.FLOAT32)
    reference_SD = run_all(plain.runner, probe, default.dim, token_budget)
    return Diagnosis(
        model=model,
        device=str(default.device),
        processor=torch.cuda.get_device_name() if default.device.type == "cuda" else platform.machine(),
        features=cpu_features(),
        num_cpus=available_cpus(),
        num_threads=torch.get_num_threads(),
        num_batches_at_once=min(workers, default.selected_runner.runner.sharing.most_at_once),
        token_budget=token_budget,
        compute_dtype=default.compute_dtype,
        dtype_reason=why_dtype(default.device, default.compute_dtype, why_not_int8),
        path=default.selected_runner.name,
        reason=default.selected_runner.reason,
        kernels=load_kernels(default.compute_dtype).reason,
        measured=[
            Measured(
                path=way.path,
                compute_dtype=way.encoder.compute_dtype,
                tokens_per_second=round(statistics.median(way.rates), 1),
                least_cosine=lowest_cosine(run_all(way.runner, probe, default.dim, token_budget), reference_SD),
                chosen=way.encoder is default and way.path == default.selected_runner.name,
            )
            for way in ways
        ],
    )
