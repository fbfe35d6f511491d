"""The builder of a worker process: it computes with the threads that the engine gave it."""

from pathlib import Path

import pytest
import torch

from sbert.encoder import process_cache
from sbert.refresh.build import build_context, builder_for, close_builder
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import make_plan
from tests.support.tables import write


def test_a_worker_keeps_to_its_threads(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sbert.runtime.hardware.available_cpus", lambda: 4)
    job = RefreshJob(
        raw_uri=str(write(tmp_path / "raw.jsonl", [{"text": "red"}])), table_uri=str(tmp_path / "t"), model=model
    )
    before = torch.get_num_threads()
    process_cache._loaded.clear()  # so that the worker loads it
    context = build_context(make_plan(job), "run")
    process_cache._loaded.clear()
    try:
        builder_for(context.model_copy(update={"worker_threads": 2}))
        assert torch.get_num_threads() == 2
    finally:
        close_builder("run")
        torch.set_num_threads(before)
