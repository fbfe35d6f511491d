"""Measure the peak memory of a refresh as the corpus grows; the goal is at most 15 % more for ten times the rows.

    python -m tests.benchmarks.memory --rows 100000 1000000 --rounds 1 [--tiny]

Each refresh runs in its own process with the packaged encoder (with ``--tiny``, an encoder that costs almost nothing). The figure is
the largest resident set (ru_maxrss), which the process reads at its end. Prefect's server runs in another process and is not included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from sbert.encoder.model_location import DEFAULT_MODEL
from tests.benchmarks.harness import alternate, made_up_texts, print_table, tiny_model

CHILD = "--child"
MIB = 2**20


def child(raw: str, table: str, model: str) -> None:
    """Refresh and print the peak memory."""
    from flows.refresh import refresh_embeddings

    report = refresh_embeddings(raw_uri=raw, table_uri=table, model=model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"num_rows": report.num_rows, "peak_bytes": peak}))


def write_corpus(folder: Path, num_rows: int) -> str:
    """Write short rows as objects of 50,000 rows each."""
    folder.mkdir()
    texts = made_up_texts(num_rows, words=6)
    for first in range(0, num_rows, 50_000):
        with (folder / f"part-{first:09d}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(first, min(first + 50_000, num_rows)):
                file.write(json.dumps({"id": str(number), "text": next(texts)}) + "\n")
    return str(folder)


def peak_of(raw: str, table: Path, model: str, num_rows: int) -> float:
    """Run one refresh in its own process and return its peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", CHILD, raw, str(table), model],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PREFECT_LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["num_rows"] == num_rows
    return float(result["peak_bytes"])


def main() -> None:
    """Run the benchmark and print its table."""
    if sys.argv[1:2] == [CHILD]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="Sizes of the corpora.")
    parser.add_argument("--rounds", type=int, default=1, help="Rounds; medians are printed.")
    parser.add_argument("--tiny", action="store_true", help="Use an encoder that costs almost nothing.")
    asked = parser.parse_args()
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name, prefect_test_harness(server_startup_timeout=90):
        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        folder = Path(name)
        model = tiny_model(folder / "model") if asked.tiny else DEFAULT_MODEL
        raws = {rows: write_corpus(folder / f"raw-{rows}", rows) for rows in asked.rows}
        tables = iter(range(10**6))
        cases = {
            f"{rows:,}": lambda rows=rows: peak_of(raws[rows], folder / f"table-{next(tables)}", model, rows)  # type: ignore[misc]
            for rows in asked.rows
        }
        medians = alternate(cases, asked.rounds)
    least = medians[f"{asked.rows[0]:,}"]
    print_table(
        f"peak resident memory of a refresh, median of {asked.rounds}",
        ("rows", "MiB", "of the first"),
        [(name, peak / MIB, f"{peak / least:.1%}") for name, peak in medians.items()],
    )


if __name__ == "__main__":
    main()
