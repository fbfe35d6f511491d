"""What an encoder will do on this machine, why, and how fast it is: measured, not assumed.

The one idea: the ways of computing that this machine has are run in turn over the same texts for a few seconds each, and
each is compared with plain float32. What is chosen should be the fastest of those that give the same vectors.
"""

import math
import platform
import statistics
import time
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.engine.budget import TokenBudget, usual_tokens
from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import DTYPE_VARIABLE, ComputeDtype, why_dtype
from sbert.encoder.engine.runner_selection import MIN_PROBE_COSINE, PROBE, Runner, least_cosine, run_all
from sbert.encoder.engine.workers import num_workers
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.runtime.cpus import available_cpus
from sbert.runtime.hardware import cpu_features, has_fast_bfloat16, use_available_cpus

__all__ = ["Diagnosis", "Measured", "diagnose"]

BATCHES = 2
"""Batches that each core gets: of PROBE again and again, texts of 3 to a few hundred tokens."""


class Measured(BaseModel):
    """One way of computing, tried."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="native, packed or padded.")
    compute_dtype: ComputeDtype
    tokens_per_second: float = Field(description="Median over the rounds, without tokenizing.")
    least_cosine: float = Field(description="To plain float32, over the probe texts.")
    chosen: bool

    @property
    def passes(self) -> bool:
        """Whether its vectors are those of float32."""
        return self.least_cosine >= MIN_PROBE_COSINE


class Diagnosis(BaseModel):
    """What was found and what was chosen."""

    model_config = ConfigDict(frozen=True)

    model: str
    device: str
    processor: str
    features: dict[str, bool] = Field(description="Units for matrix products that the processor has.")
    num_cpus: int = Field(description="Processors that the container and the affinity mask allow.")
    num_threads: int
    num_batches_at_once: int
    token_budget: int = Field(description="Tokens of a batch, padding included, when there are enough texts (tokens).")
    compute_dtype: ComputeDtype
    dtype_reason: str = Field(description="Why this type.")
    path: str
    reason: str = Field(description="Why this path.")
    kernels: str = Field(description="How the compiled kernels came about, or why there are none.")
    measured: list[Measured]

    @property
    def advice(self) -> str | None:
        """Tell when something else than the choice was clearly faster and as good; None when all is well."""
        chosen = next((way for way in self.measured if way.chosen), None)
        good = [way for way in self.measured if way.passes]
        if chosen is None or not good:
            return None
        best = max(good, key=lambda way: way.tokens_per_second)
        if best.tokens_per_second < 1.15 * chosen.tokens_per_second:
            return None
        return (
            f"{best.compute_dtype} ({best.path}) was {best.tokens_per_second / chosen.tokens_per_second:.2f} times as fast "
            f"as the choice: set {DTYPE_VARIABLE}={best.compute_dtype} for new tables"
        )


@dataclass(frozen=True)
class _Way:
    path: str
    encoder: SentenceEncoder
    runner: Runner
    tokens: TokenizedTexts
    rates: list[float] = field(default_factory=list)

    def run_once(self) -> None:
        """Encode the texts, and note the rate."""
        began = time.perf_counter()
        TokenBudget().compute(self.runner, self.tokens, dim=self.encoder.dim, device=self.encoder.device)
        self.rates.append(int(self.tokens.lengths.sum()) / (time.perf_counter() - began))


def diagnose(model: str = DEFAULT_MODEL, *, seconds: float = 10.0) -> Diagnosis:
    """Load a model as a refresh would, and measure the ways of computing it for about `seconds` in all.

    Raises:
        ModelError: when the model cannot be loaded.
    """
    use_available_cpus()
    chosen = SentenceEncoder.from_pretrained(model)
    others = {ComputeDtype.FLOAT32} | ({ComputeDtype.BFLOAT16} if has_fast_bfloat16(chosen.device) else set())
    encoders = [chosen] + [
        SentenceEncoder.from_pretrained(model, compute_dtype=dtype, device=chosen.device)
        for dtype in sorted(others - {chosen.compute_dtype})
    ]
    workers = num_workers(chosen.device)
    token_budget = usual_tokens(chosen.device)
    probe = chosen.tokenize(PROBE)
    tokens = chosen.tokenize(PROBE * math.ceil(BATCHES * workers * token_budget / int(probe.lengths.sum())))
    ways = [_Way("padded", encoder, encoder.plain_runner(), tokens) for encoder in encoders]
    for encoder in encoders:
        found = encoder.selected_runner
        packed = found.runner if found.name == "packed" else encoder.packed_runner() if found.name == "native" else None
        ways += [_Way("packed", encoder, packed, tokens)] if packed is not None else []
        ways += [_Way("native", encoder, found.runner, tokens)] if found.name == "native" else []
    for way in ways:
        way.run_once()
        way.rates.clear()  # the first round warms up
    stop = time.monotonic() + seconds
    while not ways[-1].rates or time.monotonic() < stop:
        for way in ways:
            way.run_once()
    plain = next(way for way in ways if way.encoder.compute_dtype is ComputeDtype.FLOAT32)
    reference_SD = run_all(plain.runner, probe, chosen.dim, token_budget)
    return Diagnosis(
        model=model,
        device=str(chosen.device),
        processor=torch.cuda.get_device_name() if chosen.device.type == "cuda" else platform.machine(),
        features=cpu_features(),
        num_cpus=available_cpus(),
        num_threads=torch.get_num_threads(),
        num_batches_at_once=workers if chosen.selected_runner.runner.side_by_side else 1,
        token_budget=token_budget,
        compute_dtype=chosen.compute_dtype,
        dtype_reason=why_dtype(chosen.device, chosen.compute_dtype),
        path=chosen.selected_runner.name,
        reason=chosen.selected_runner.reason,
        kernels=load_kernels().reason,
        measured=[
            Measured(
                path=way.path,
                compute_dtype=way.encoder.compute_dtype,
                tokens_per_second=round(statistics.median(way.rates), 1),
                least_cosine=least_cosine(run_all(way.runner, probe, chosen.dim, token_budget), reference_SD),
                chosen=way.encoder is chosen and way.path == chosen.selected_runner.name,
            )
            for way in ways
        ],
    )
