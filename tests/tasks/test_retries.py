"""Retries: only storage that did not answer is tried again."""

import errno
import json
from pathlib import Path

import pytest

from flows.refresh import refresh_embeddings
from sbert.errors import BrokenObjectError, IncompleteError, ModelError, QualityError, StorageError
from sbert.storage.errors import is_transient
from tasks.embed import embed_splits
from tasks.plan import plan_refresh
from tasks.publish import diff_splits, publish_table
from tasks.retries import JITTER, MAX_RETRIES, failed_transiently
from tests.support.tiny_models import save_tiny


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StorageError("503 slow down", uri="s3://b", transient=True), True),
        (StorageError("access denied", uri="s3://b"), False),
        (ConnectionResetError("reset"), True),
        (TimeoutError("timed out"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (BrokenObjectError("a.gz", "truncated"), False),
        (QualityError("NaN"), False),
        (ModelError("no tokenizer"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_transient_errors_are_retried(error: BaseException, again: bool) -> None:
    assert is_transient(error) is again


def test_every_task_that_touches_storage_retries_with_jitter() -> None:
    for task in (embed_splits, plan_refresh, diff_splits, publish_table):
        assert task.retries == MAX_RETRIES, task.name
        assert task.retry_jitter_factor == JITTER, task.name
        assert task.retry_condition_fn is failed_transiently, task.name


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("transient", "attempts"), [(True, 2), (False, 1)])
def test_a_split_is_built_again_only_when_storage_failed_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transient: bool, attempts: int
) -> None:
    model = save_tiny(tmp_path / "model")
    (tmp_path / "raw").mkdir()
    raw = tmp_path / "raw/a.jsonl"
    raw.write_text(
        "".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(["red", "cat", "oven"]))
    )
    from sbert.refresh.build import SplitBuilder

    build, calls = SplitBuilder.build, []

    def fails_once(self: SplitBuilder, *args: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise StorageError(f"{raw}: 503", uri=str(raw), transient=transient)
        return build(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitBuilder, "build", fails_once)
    monkeypatch.setattr(embed_splits, "retry_delay_seconds", [0.0] * MAX_RETRIES)
    if transient:
        assert refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), model=model).num_rows == 3
    else:
        with pytest.raises(IncompleteError, match="1 of 1 objects could not be read"):
            refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), model=model)
    assert len(calls) == attempts
