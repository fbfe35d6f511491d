"""Measure what grows with a table: every job of a table's life at several sizes, with an encoder that costs almost nothing.

    python -m tests.benchmarks.scale --rows 200000 --objects 2000 [--rows 1000000 --objects 10000]

Each step runs in its own process, over the same raw folder and table. It is measured from plan to commit, with its peak memory (largest
resident set, imports included). With several sizes the last column compares the memory of the largest with that of the smallest.
``PROFILE=FOLDER`` writes a profile of every step.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import peak_mebibytes, print_table
from tests.benchmarks.incremental import Raw, base_texts, profiled, tiny_model

IMPORTS = (
    "transformers.models.bert.modeling_bert",
    "tests.support.refreshing",
    "sbert.table.compaction",
    "sbert.table.verify",
    "sbert.sync.change_feed",
    "sbert.table.rollback",
    "pandas",  # pyarrow imports it where it is installed
)
NEW_SHARE = 1_000
"""One row in this many is new in the step of new rows."""


@dataclass(frozen=True)
class Step:
    """One step, measured."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    note: str
    """The step's own count, for people."""


def refresh(table: str, raw: str, model: str) -> str:
    """Bring the table up to date. Return the number of texts encoded."""
    from tests.support.refreshing import refreshed

    report = refreshed(raw, table, model, concurrency=2).report
    return f"{report.num_splits_built:,} splits built, {report.num_texts_encoded:,} texts encoded"


def compact(table: str) -> str:
    """Merge small shards. Return their numbers before and after."""
    from sbert.table.compaction import compact_table

    done = compact_table(table)
    return f"{done.num_shards_before:,} shards became {done.num_shards:,}"


def verify(table: str) -> str:
    """Read and check every row. Return the number of rows."""
    from sbert.table.verify import verify_table

    verification = verify_table(table)
    assert not verification.findings, verification.findings[:3]
    return f"{verification.num_rows:,} rows checked"


def changes(table: str, first: int, last: int) -> str:
    """Count the changes between two versions."""
    from sbert.sync.change_feed import write_changes

    summary = write_changes(table, first, last, None)
    return f"{summary.num_upserts:,} upserts, {summary.num_deletes:,} deletes"


def rollback(table: str, version: int) -> str:
    """Restore a version. Return its number of rows."""
    from sbert.table.rollback import roll_back

    return f"{roll_back(table, version).num_rows:,} rows of version {version}"


JOBS: dict[str, Callable[..., str]] = {job.__name__: job for job in (refresh, compact, verify, changes, rollback)}


def child(request: dict[str, Any]) -> None:
    """Run one job and print its measurements."""
    job = JOBS[request.pop("job")]
    name = request.pop("name")
    folder = os.environ.get("PROFILE")
    for module in IMPORTS:  # so that imports are not measured
        importlib.import_module(module)
    began, cpu_began = time.monotonic(), time.process_time()
    with profiled(None if folder is None else str(Path(folder) / f"{name}.prof".replace(" ", "-"))):
        note = job(**request)
    measured = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_mib": peak_mebibytes(),
        "note": note,
    }
    print(json.dumps(measured))


def run(name: str, job: str, **request: Any) -> Step:
    """Run one job in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale", "--child", json.dumps({"name": name, "job": job, **request})],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    step = Step(name, **json.loads(done.stdout.splitlines()[-1]))
    print(
        f"  {name}: {step.seconds:.2f} s, {step.cpu_seconds:.2f} s CPU, {step.peak_mib:,.0f} MiB, {step.note}",
        flush=True,
    )
    return step


def with_shorter_texts(model: str, folder: Path) -> str:
    """Save a copy of an encoder that truncates earlier, so that it is another encoder."""
    shutil.copytree(model, folder)
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_seq_length": 48}))
    return str(folder)


def life_of(folder: Path, num_rows: int, num_objects: int) -> list[Step]:
    """Run all steps on a table of one size."""
    print(f"{num_rows:,} rows in {num_objects:,} objects")
    raw_folder, table = folder / "raw", str(folder / "table")
    began = time.monotonic()
    raw = Raw(raw_folder, base_texts(None), num_rows, num_objects)
    print(f"  (writing the raw text: {time.monotonic() - began:.0f} s)", flush=True)
    model = tiny_model(folder / "model")
    other = with_shorter_texts(model, folder / "other")
    refreshing: dict[str, Any] = {"job": "refresh", "table": table, "raw": str(raw_folder), "model": model}
    steps = [run("full run", **refreshing), run("nothing changed", **refreshing)]
    raw.add_objects(max(1, num_objects // NEW_SHARE), num_rows // NEW_SHARE, suffix="new")
    return [
        *steps,
        run("0.1 % new", **refreshing),
        run("change feed of it", "changes", table=table, first=0, last=1),
        run("compaction", "compact", table=table),
        run("nothing changed, compacted", **refreshing),
        run("verify", "verify", table=table),
        run("encoder switch", **{**refreshing, "model": other}),
        run("rollback", "rollback", table=table, version=1),
    ]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="Rows of a table; may be repeated. [200000]")
    parser.add_argument("--objects", type=int, action="append", help="Objects of each of these tables. [2000]")
    parser.add_argument("--folder", help="Folder to work in. [a temporary folder]")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(json.loads(arguments.child))
        return
    sizes = list(zip(arguments.rows or [200_000], arguments.objects or [2_000], strict=True))
    lives = []
    for num_rows, num_objects in sizes:
        with tempfile.TemporaryDirectory(prefix="sbert-scale-", dir=arguments.folder) as name:
            lives.append(life_of(Path(name), num_rows, num_objects))
    for (num_rows, num_objects), steps in zip(sizes, lives, strict=True):
        rows = [
            [
                step.name,
                step.seconds,
                f"{step.seconds / steps[0].seconds:.2%}",
                step.cpu_seconds,
                step.peak_mib,
                f"{step.peak_mib / first.peak_mib:.2f}",
                step.note,
            ]
            for step, first in zip(steps, lives[0], strict=True)
        ]
        print_table(
            f"{num_rows:,} rows in {num_objects:,} objects, tiny encoder of 384 values",
            ["step", "seconds", "of the full run", "CPU seconds", "peak MiB", "of the first size", "what"],
            rows,
        )


if __name__ == "__main__":
    main()
