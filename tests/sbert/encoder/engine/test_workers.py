"""Batches side by side: each thread keeps to its share of the cores. Batches in turn: the device is never out of work."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from sbert.encoder.engine import budget, workers
from sbert.encoder.engine.sharing import Sharing
from sbert.encoder.engine.workers import BATCHES_IN_FLIGHT, _pool, compute_batches
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from tests.support.tiny_models import tiny_encoder


def test_a_thread_computes_with_its_share_of_the_cores() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def work() -> int:
            torch.nn.functional.layer_norm(torch.ones(4096, 64), (64,))  # the first operation sets the thread up
            return torch.get_num_threads()

        assert _pool(2).submit(work).result() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_batches_in_turn_are_laid_out_and_started_before_earlier_vectors_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []

    def batches() -> Iterator[int]:
        for number in range(BATCHES_IN_FLIGHT + 2):
            events.append(f"laid out {number}")
            yield number

    class Runner:
        sharing = Sharing(most_at_once=2, batch_cost=8)

        def cut(self, tokens: object, sequences: object, token_budget: int, num_at_once: int = 1) -> object:
            raise AssertionError

        def run(self, tokens: object, batch: int) -> torch.Tensor:
            events.append(f"started {batch}")
            return torch.tensor([batch])

    def copy_to_cpu(values: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: events.append(f"waited for {int(values)}") or values  # type: ignore[func-returns-value]

    monkeypatch.setattr(workers, "copy_to_cpu", copy_to_cpu)
    outcomes = compute_batches(Runner(), tiny_encoder().tokenize(["red"]), batches(), 1)
    last = BATCHES_IN_FLIGHT + 1
    assert [batch for batch, _ in outcomes] == list(range(last + 1))
    place = {event: number for number, event in enumerate(events)}
    for number in range(last + 1):
        assert place[f"laid out {number}"] < place[f"started {number}"] < place[f"waited for {number}"]
        later = min(number + BATCHES_IN_FLIGHT - 1, last)
        assert place[f"started {later}"] < place[f"waited for {number}"]
    assert place["laid out 2"] > place["started 1"]  # not all of them first


@pytest.mark.parametrize("num_texts", [48, 97, 147])
def test_a_failed_batch_frees_its_memory(num_texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for 200 tokens, taken 20 at a time: what failed must not take the room of what comes after."""
    encoder = tiny_encoder()
    texts = ["red blue cat"] * num_texts  # 5 tokens each
    expected = encoder.encode(texts)
    monkeypatch.setattr(budget, "num_workers", lambda device: 1)
    run = encoder.selected_runner.runner.run
    held: list[weakref.ref[Any]] = []

    class Room:
        pass

    def with_little_memory(tokens: TokenizedTexts, batch: Any) -> torch.Tensor:
        taken = []
        for _ in range(0, int(tokens.lengths[batch.sequences].sum()), 20):
            if 20 * sum(each() is not None for each in held) + 20 > 200:
                raise torch.OutOfMemoryError("CUDA out of memory")
            taken.append(Room())
            held.append(weakref.ref(taken[-1]))
        return run(tokens, batch)

    monkeypatch.setattr(encoder.selected_runner.runner, "run", with_little_memory)
    tokens = encoder.tokenize(texts)
    vectors = encoder.encode_tokens(tokens, token_budget=256)
    torch.testing.assert_close(torch.from_numpy(vectors), torch.from_numpy(expected))
    assert encoder._token_budget._lowered == 120  # half of the first batch that did not fit, 48 texts


@pytest.mark.parametrize(
    ("message", "expected"),
    [("CUDA out of memory", True), ("CUBLAS_STATUS_ALLOC_FAILED when calling", True), ("shape mismatch", False)],
)
def test_out_of_memory_errors_are_recognised(message: str, *, expected: bool) -> None:
    assert budget.is_out_of_memory(RuntimeError(message)) is expected


@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_small_job_is_divided_among_workers_only(num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder("modernbert")
    monkeypatch.setattr(budget, "num_workers", lambda device: num_workers)
    runner = encoder.selected_runner.runner
    monkeypatch.setattr(type(runner), "sharing", Sharing(most_at_once=4, batch_cost=8))
    sizes: list[int] = []
    run = runner.run

    def count(tokens: TokenizedTexts, batch: Any) -> torch.Tensor:
        sizes.append(len(batch.sequences))
        return run(tokens, batch)

    monkeypatch.setattr(runner, "run", count)
    tokens = encoder.tokenize(["red " * (1 + number % 60) for number in range(128)])
    encoder.encode_tokens(tokens, token_budget=budget.GPU_TOKENS)
    assert sum(sizes) == 128
    if num_workers == 1:
        assert len(sizes) <= 3  # a 32nd of the budget may be padded as it comes: 4,096 tokens
    else:
        assert len(sizes) >= num_workers
