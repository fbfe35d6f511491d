"""The encoder of a process: a warning when some of the machine's GPUs stay idle."""

import pytest
import torch

from sbert.encoder import process_cache


@pytest.mark.parametrize(("device", "num_gpus", "warned"), [("cuda", 4, True), ("cuda", 1, False), ("cpu", 4, False)])
def test_idle_gpus_are_mentioned(
    device: str, num_gpus: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, warned: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    process_cache._warn_of_idle_gpus(torch.device(device))
    assert ("one of 4 GPUs: to use all of them, choose engine ray with gpus_per_worker 1" in caplog.text) is warned
