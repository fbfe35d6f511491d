"""The builder of a worker process: what travels to it, its threads, and what an attempt leaves to the next."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sbert.encoder import process_cache
from sbert.errors import StorageError
from sbert.refresh.build import BuildContext, SplitBuilder, build_context, builder_for, close_builder
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.scheduling import SplitGroup
from tests.support.tables import objects_apart, write_objects

RUN = "run"


@pytest.fixture(autouse=True)
def _forget_the_run() -> Iterator[None]:
    yield
    close_builder(RUN)


@pytest.fixture
def plan(tmp_path: Path, model: str) -> Plan:
    write_objects(tmp_path / "raw", 3, 10)
    settings = objects_apart(source={"keep_columns": ["kind"]})
    job = RefreshJob(raw_uri=str(tmp_path / "raw"), table_uri=str(tmp_path / "table"), model=model, settings=settings)
    return make_plan(job)


def build(context: BuildContext, plan: Plan, *, attempt: int = 1, is_last: bool = False) -> dict[str, int]:
    """Build all splits as one group; return the rows read of each split, by its name."""
    results = builder_for(context).build_group(
        SplitGroup(splits=tuple(plan.build)), attempt=attempt, is_last_attempt=is_last
    )
    return {result.planned.split.name: result.counts.num_rows_read for result in results}


def test_a_worker_keeps_to_its_threads(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sbert.runtime.hardware.available_cpus", lambda: 4)
    before = torch.get_num_threads()
    process_cache._loaded.clear()  # so that the worker loads it
    try:
        builder_for(build_context(plan, RUN).model_copy(update={"worker_threads": 2}))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_context_that_travelled_to_another_process_builds_the_same_splits(plan: Plan) -> None:
    context = pickle.loads(pickle.dumps(build_context(plan, RUN)))
    assert context == build_context(plan, RUN)
    assert build(context, plan) == {"0.jsonl": 10, "1.jsonl": 10, "2.jsonl": 10}


def test_one_process_has_one_builder_a_run_and_a_new_one_for_a_new_plan(plan: Plan) -> None:
    first = builder_for(build_context(plan, RUN))
    assert builder_for(build_context(plan, RUN)) is first
    second = builder_for(build_context(plan, RUN, attempt=2))
    assert second is not first
    assert builder_for(build_context(plan, RUN, attempt=2)) is second


def test_splits_that_an_earlier_attempt_finished_are_not_built_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, built = SplitBuilder.build, []

    def fails_once(self: SplitBuilder, planned: object, *args: object) -> object:
        name = planned.split.name  # type: ignore[attr-defined]
        built.append(name)
        if built.count(name) == 1 and name == "1.jsonl":
            raise StorageError("503", uri=planned.split.spans[0].object.uri, transient=True)  # type: ignore[attr-defined]
        return real(self, planned, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitBuilder, "build", fails_once)
    context = build_context(plan, RUN)
    with pytest.raises(StorageError, match="503"):
        build(context, plan)
    assert build(context, plan, attempt=2) == {"0.jsonl": 10, "1.jsonl": 10, "2.jsonl": 10}
    assert built == ["0.jsonl", "1.jsonl", "2.jsonl", "1.jsonl"]
    assert builder_for(context).state.work.done().num_rows == 30


def test_on_the_last_attempt_an_object_that_storage_refuses_counts_as_unreadable(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: SplitBuilder, planned: object, *_: object) -> object:
        raise StorageError("503", uri=planned.split.spans[0].object.uri, transient=True)  # type: ignore[attr-defined]

    monkeypatch.setattr(SplitBuilder, "build", refused)
    assert build(build_context(plan, RUN), plan, is_last=True) == {"0.jsonl": 0, "1.jsonl": 0, "2.jsonl": 0}
