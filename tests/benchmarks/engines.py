"""Measure the overhead of Prefect, and how much faster two Ray or Dask workers are than one.

    python -m tests.benchmarks.engines overhead [--splits 1000] [--seconds 1] [--concurrency 20]
    python -m tests.benchmarks.engines workers {ray,dask} [--rows 20000]

``overhead`` compares a refresh through Prefect with the same refresh by the library alone, in the same number of threads. The
work of a split is a sleep and a real completion record, so only the orchestration differs. The comparison is repeated with no
work at all.

``workers`` compares two workers of one core each with one worker, with the packaged encoder on the sample corpus. The cluster
runs already and its workers have loaded the encoder. This needs two free cores. Both print one JSON object.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import flows.cli.app  # noqa: F401  (first: it sets Prefect's environment)
from flows.engines import EngineSettings
from flows.refresh import refresh_embeddings
from sbert.refresh.build import SplitBuilder
from sbert.refresh.build_result import BuildResult
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.run import refresh
from sbert.refresh.stream import StreamResult
from sbert.rows.counts import RowCounts
from sbert.source.sample import write_sample
from sbert.table.split_records import write_record

EVERY_OBJECT = RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}})


def overhead(num_splits: int, seconds: float, concurrency: int) -> dict[str, Any]:
    """Compare a refresh through Prefect with one by the library alone."""
    from tests.support.tiny_models import save_tiny

    real = SplitBuilder.build

    def simulated(self: SplitBuilder, planned: PlannedSplit, excluded: frozenset[str] = frozenset()) -> BuildResult:
        time.sleep(simulated_seconds)
        record = self._record(planned, StreamResult(), RowCounts(), has_sample=False)
        write_record(self.context.spec.table_uri, record)
        return BuildResult(planned=planned, built=planned, record=record)

    measured: dict[str, Any] = {"splits": num_splits, "concurrency": concurrency}
    with tempfile.TemporaryDirectory(prefix="sbert-engines-") as folder:
        raw = Path(folder, "raw")
        raw.mkdir()
        for number in range(num_splits):
            (raw / f"part-{number:05}.jsonl").write_text(f'{{"id": "{number}", "text": "text {number}"}}\n')
        model = save_tiny(Path(folder, "model"))
        SplitBuilder.build = simulated  # type: ignore[method-assign]
        try:
            refresh_embeddings(str(raw), f"{folder}/warm-up", model=model, dry_run=True)
            for label, simulated_seconds in (("working", seconds), ("empty", 0.0)):  # noqa: B007  (`simulated` reads it)
                job = RefreshJob(
                    raw_uri=str(raw), table_uri=f"{folder}/plain-{label}", model=model, settings=EVERY_OBJECT
                )
                began = time.monotonic()
                refresh(job, concurrency=concurrency)
                between = time.monotonic()
                refresh_embeddings(
                    str(raw), f"{folder}/{label}", model=model, concurrency=concurrency, settings=EVERY_OBJECT
                )
                ended = time.monotonic()
                measured[f"{label}_plain_seconds"] = round(between - began, 2)
                measured[f"{label}_flow_seconds"] = round(ended - between, 2)
        finally:
            SplitBuilder.build = real  # type: ignore[method-assign]
    measured["overhead_share"] = round(measured["working_flow_seconds"] / measured["working_plain_seconds"] - 1, 4)
    return measured


@contextlib.contextmanager
def cluster(kind: str) -> Iterator[EngineSettings]:
    """Start a cluster of two workers that serves several runs."""
    if kind == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=128 * 2**20,
            log_to_driver=False,
            namespace="prefect",
        )
        yield EngineSettings.model_validate({"kind": "ray", "address": "auto"})
        ray.shutdown()
    else:
        import distributed

        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None
        ) as started:
            yield EngineSettings.model_validate({"kind": "dask", "address": started.scheduler_address})


def workers(kind: str, num_rows: int) -> dict[str, Any]:
    """Compare two workers with one."""
    measured: dict[str, Any] = {"engine": kind, "rows": num_rows}
    with tempfile.TemporaryDirectory(prefix="sbert-engines-") as folder:
        raw, warm = Path(folder, "raw"), Path(folder, "warm")
        cut_sample(raw, num_rows, num_objects=60)
        cut_sample(warm, 40, num_objects=20)
        with cluster(kind) as engine:
            for number in range(2):  # both workers load the encoder
                refresh_embeddings(
                    str(warm), f"{folder}/warm-{number}", concurrency=2, engine=engine, settings=EVERY_OBJECT
                )
            for concurrency in (1, 2):
                began = time.monotonic()
                report = refresh_embeddings(
                    str(raw),
                    f"{folder}/table-{concurrency}",
                    concurrency=concurrency,
                    engine=engine,
                    settings=EVERY_OBJECT,
                )
                measured[f"seconds_with_{concurrency}"] = round(time.monotonic() - began, 2)
                measured["tokens"] = report.num_tokens_encoded
    measured["speedup"] = round(measured["seconds_with_1"] / measured["seconds_with_2"], 3)
    return measured


def cut_sample(folder: Path, num_rows: int, num_objects: int) -> None:
    """Write rows of the sample corpus as many small objects.

    When the corpus is used up, its rows are repeated with a number appended.
    """
    with tempfile.TemporaryDirectory() as whole:
        write_sample(whole)
        lines = [line for path in sorted(Path(whole).rglob("*.jsonl")) for line in path.read_text().splitlines()]
    rows = [json.loads(line) for line in lines[:: max(1, len(lines) // num_rows)]]
    folder.mkdir()
    for number in range(num_objects):
        with (folder / f"part-{number:03}.jsonl").open("w") as file:
            for at in range(number, num_rows, num_objects):
                turn, row = at // len(rows), rows[at % len(rows)]
                file.write(json.dumps({"id": f"{turn} {row['id']}", "text": f"{row['text']} {turn}"}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("overhead")
    one.add_argument("--splits", type=int, default=1000)
    one.add_argument("--seconds", type=float, default=1.0)
    one.add_argument("--concurrency", type=int, default=20)
    two = commands.add_parser("workers")
    two.add_argument("kind", choices=["ray", "dask"])
    two.add_argument("--rows", type=int, default=20_000)
    asked = parser.parse_args()
    if asked.command == "overhead":
        print(json.dumps(overhead(asked.splits, asked.seconds, asked.concurrency)))
    else:
        print(json.dumps(workers(asked.kind, asked.rows)))


if __name__ == "__main__":
    main()
