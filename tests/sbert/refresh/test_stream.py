"""One split as a stream: what is written, what is encoded, and what is left behind by a failure."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from sbert.encoder.process_cache import load_encoder
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan, make_plan
from sbert.refresh.stream import StreamResult, stream_split
from sbert.refresh.worker_state import WorkerState
from sbert.table.quantization_recall import VectorSample
from tests.support.tables import Rows, objects_apart, rows, write


class Streams:
    """A plan, and the state of the one process that builds its splits."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = WorkerState(plan.spec, load_encoder(plan.spec.encoder_spec))
        self.sample = VectorSample(0, self.state.encoder.dim)

    def run(self, planned: PlannedSplit | None = None, excluded: frozenset[str] = frozenset()) -> StreamResult:
        """Stream a split, by default the first."""
        return stream_split(self.plan.spec, self.state, planned or self.plan.build[0], excluded, self.sample)

    def written(self, result: StreamResult) -> pl.DataFrame:
        """Return the rows of its shards."""
        return pl.concat(pl.read_parquet(f"{self.plan.table_uri}/{shard.name}") for shard in result.shards)

    def files(self) -> list[str]:
        """Return the names of all files in the table's folder."""
        return sorted(path.name for path in Path(self.plan.table_uri).rglob("*") if path.is_file())


@contextmanager
def streams(folder: Path, model: str, settings: RefreshSettings) -> Iterator[Streams]:
    """Plan a new table of ``folder/raw``."""
    job = RefreshJob(raw_uri=f"{folder}/raw", table_uri=f"{folder}/table", model=model, settings=settings)
    made = Streams(make_plan(job))
    try:
        yield made
    finally:
        made.state.close()


def test_rows_come_out_in_their_order_and_are_accounted_for(tmp_path: Path, model: str) -> None:
    lines: Rows = [*rows(0, 20), {"id": "empty", "text": " "}]
    write(tmp_path / "raw/a.jsonl", lines)
    with streams(tmp_path, model, objects_apart(reading={"block_rows": 7})) as made:
        result = made.run()
        assert made.written(result)["id"].to_list() == [str(number) for number in range(20)]
    assert result.counts.num_rows_read == 21
    assert result.counts.num_rows_encoded == result.counts.num_texts_encoded == 20
    assert result.counts.rejects_by_reason == {"empty_text": 1}
    assert result.broken == {}


def test_a_text_of_an_earlier_split_is_not_encoded_again(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    write(tmp_path / "raw/b.jsonl", rows(5, 10))
    with streams(tmp_path, model, objects_apart()) as made:
        first, second = (made.run(planned) for planned in made.plan.build)
        assert made.state.work.done().num_tokens == first.counts.num_tokens_encoded + second.counts.num_tokens_encoded
    assert first.counts.num_texts_encoded == 10
    assert second.counts.num_texts_encoded == 5
    assert second.counts.num_rows_encoded == 10  # of this run, so not carried over


@pytest.mark.parametrize("block_rows", [3, 1000])
def test_a_later_row_with_the_same_id_replaces_the_earlier_one(tmp_path: Path, model: str, block_rows: int) -> None:
    lines = rows(0, 10)
    lines[8]["id"] = "1"
    write(tmp_path / "raw/a.jsonl", lines)
    with streams(tmp_path, model, objects_apart(reading={"block_rows": block_rows})) as made:
        result = made.run()
        ids = made.written(result)["id"].to_list()
    assert ids == ["0", "2", "3", "4", "5", "6", "7", "1", "9"]
    assert result.counts.rejects_by_reason == {"duplicate_id": 1}


def test_excluded_ids_are_rejected_as_duplicates(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with streams(tmp_path, model, objects_apart()) as made:
        result = made.run(excluded=frozenset({"3", "absent"}))
        assert "3" not in made.written(result)["id"].to_list()
    assert result.counts.rejects_by_reason == {"duplicate_id": 1}


def test_broken_objects_are_all_named_and_nothing_is_kept(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "abc":
        content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows(0, 50)).encode())
        (raw / f"{name}.jsonl.gz").write_bytes(content if name == "b" else content[: len(content) // 2])
    with streams(tmp_path, model, RefreshSettings()) as made:
        result = made.run()
        assert made.files() == []
    assert sorted(result.broken) == [f"{raw}/a.jsonl.gz", f"{raw}/c.jsonl.gz"]
    assert result.shards == []
    assert result.counts.num_rows_read == 0


def test_a_stopped_stream_leaves_nothing_behind(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 50))
    with streams(tmp_path, model, objects_apart(reading={"block_rows": 5})) as made:
        made.state.stop.set()
        with pytest.raises(InterruptedError, match="stopped on request"):
            made.run()
        assert made.files() == []
