"""The doctor's diagnosis is what an encoder does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sbert.encoder.doctor import Diagnosis, Measured, diagnose
from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import DTYPE_VARIABLE, ComputeDtype
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.workers import num_workers
from sbert.encoder.sentence_encoder import PROBE_TOKEN_BUDGET, SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from tests.support.tiny_models import WIDE, WORDS, save_tiny


@pytest.mark.parametrize("dtype", [ComputeDtype.FLOAT32, ComputeDtype.BFLOAT16])
def test_the_diagnosis_is_what_an_encoder_does(
    model: str, dtype: ComputeDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DTYPE_VARIABLE, dtype.value)
    budgets: list[int] = []
    cut = PackedRunner.cut

    def record(
        self: PackedRunner, tokens: TokenizedTexts, sequences: Any, token_budget: int, num_at_once: int = 1
    ) -> Iterator[Any]:
        budgets.append(token_budget)
        return cut(self, tokens, sequences, token_budget, num_at_once)

    monkeypatch.setattr(PackedRunner, "cut", record)
    encoder = SentenceEncoder.from_pretrained(model)
    assert encoder.selected_runner.name == "packed"
    budgets.clear()
    rng = np.random.default_rng(0)
    encoder.encode([" ".join(rng.choice(WORDS, 40)) for _ in range(100 * num_workers(encoder.device))])
    (budget,) = budgets
    budgets.clear()

    diagnosis = diagnose(model, seconds=0.1)
    assert set(budgets) == {
        PROBE_TOKEN_BUDGET,
        budget,
    }  # the choice is proven with the first, and measured with the second
    assert diagnosis.token_budget == budget
    assert diagnosis.compute_dtype is encoder.compute_dtype is dtype
    assert diagnosis.path == "packed"
    assert diagnosis.reason == encoder.selected_runner.reason
    assert diagnosis.dtype_reason == "SBERT_COMPUTE_DTYPE says so"
    assert diagnosis.num_threads == torch.get_num_threads()
    assert diagnosis.num_batches_at_once == num_workers(encoder.device)
    (selected,) = (way for way in diagnosis.measured if way.chosen)
    assert selected.path == "packed"
    assert selected.compute_dtype is dtype
    assert all(way.passes and way.tokens_per_second > 0 for way in diagnosis.measured)
    assert {("padded", ComputeDtype.FLOAT32), ("packed", dtype)} <= {
        (way.path, way.compute_dtype) for way in diagnosis.measured
    }


def test_an_encoder_in_integers_is_measured_by_its_own_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own forward pass knows no integers, so it is measured in other types alone."""
    monkeypatch.setenv(DTYPE_VARIABLE, "int8")
    folder = save_tiny(tmp_path, hidden=WIDE)
    kernels = load_kernels(ComputeDtype.INT8)
    diagnosis = diagnose(folder, seconds=0.1)
    ways = {(way.path, way.compute_dtype) for way in diagnosis.measured}
    assert ("padded", ComputeDtype.FLOAT32) in ways
    assert ("padded", ComputeDtype.INT8) not in ways
    assert diagnosis.compute_dtype is ComputeDtype.INT8
    assert diagnosis.dtype_reason == "SBERT_COMPUTE_DTYPE says so"
    assert diagnosis.kernels == load_kernels(ComputeDtype.INT8).reason
    names = ["packed"] if kernels.library is None else ["native", "packed"]
    assert sorted(path for path, dtype in ways if dtype is ComputeDtype.INT8) == names
    (selected,) = (way for way in diagnosis.measured if way.chosen)
    assert (selected.path, selected.compute_dtype) == (names[0], ComputeDtype.INT8)
    assert all(way.tokens_per_second > 0 for way in diagnosis.measured)


def test_a_type_that_failed_the_probe_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DTYPE_VARIABLE, "bfloat16")
    monkeypatch.setattr("sbert.encoder.type_choice.MIN_PROBE_COSINE", 0.9999999)
    diagnosis = diagnose(model, seconds=0.1)
    assert diagnosis.compute_dtype is ComputeDtype.FLOAT32
    assert diagnosis.dtype_reason == "bfloat16 gives other vectors than float32 on the probe"


def test_advice_names_a_clearly_faster_way_that_is_as_accurate() -> None:
    def diagnosis(*ways: tuple[str, float, float, bool]) -> Diagnosis:
        return Diagnosis(
            model="m", device="cpu", processor="x86_64", features={}, num_cpus=2, num_threads=2, num_batches_at_once=2,
            token_budget=2_048, compute_dtype=ComputeDtype.FLOAT32, dtype_reason="", path="packed", reason="", kernels="",
            measured=[
                Measured(path="packed", compute_dtype=ComputeDtype(dtype), tokens_per_second=rate, least_cosine=cosine, chosen=it)
                for dtype, rate, cosine, it in ways
            ],
        )  # fmt: skip

    float32 = ("float32", 100.0, 1.0, True)
    advice = diagnosis(float32, ("bfloat16", 150.0, 0.9995, False)).advice
    assert (
        advice
        == "bfloat16 (packed) was 1.50 times as fast as the selected way: set SBERT_COMPUTE_DTYPE=bfloat16 for new tables"
    )
    assert diagnosis(float32, ("bfloat16", 110.0, 0.9995, False)).advice is None
    assert diagnosis(float32, ("bfloat16", 150.0, 0.99, False)).advice is None
