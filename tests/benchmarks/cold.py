"""Measure a cold start: `sbert refresh` of short texts compared with `SentenceTransformer.encode`, each in a new process.

    python -m tests.benchmarks.cold [--rows 5000] [--rounds 3] [--first-ever]

The measured time begins when Python starts. It includes imports, Prefect's temporary server, loading the model, compiling the
kernels (their cache is emptied before each run), reading and encoding. `sbert refresh` also writes and commits the table;
sentence-transformers reads the same file and keeps its vectors in memory. Prefect's database exists before the run, unless
``--first-ever`` is given: then each run creates it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from tests.benchmarks.harness import alternate, made_up_texts, print_table

PEER = """
import json, sys
from sentence_transformers import SentenceTransformer
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
assert SentenceTransformer(sys.argv[2], device="cpu").encode(texts).shape[0] == len(texts)
"""


def seconds_of(command: list[str], folder: Path, first_ever: bool) -> float:
    """Run a command with empty caches of this project and return its seconds."""
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "XDG_CACHE_HOME": f"{empty}/cache",
            "PREFECT_HOME": f"{empty if first_ever else folder}/prefect",
        }
        environment.pop("PREFECT_API_URL", None)
        began = time.perf_counter()
        subprocess.run(
            command, env=environment, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return time.perf_counter() - began


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000, help="Number of texts.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; medians are printed.")
    parser.add_argument("--first-ever", action="store_true", help="Let each run create Prefect's database.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder = Path(name)
        texts = made_up_texts(asked.rows, words=2)
        raw = folder / "raw.jsonl"
        raw.write_text("".join(json.dumps({"id": str(at), "text": text}) + "\n" for at, text in enumerate(texts)))
        sbert = str(Path(sys.executable).with_name("sbert"))
        tables = iter(range(10**6))
        cold_seconds = partial(seconds_of, folder=folder, first_ever=asked.first_ever)
        if not asked.first_ever:
            cold_seconds([sbert, "refresh", str(raw), f"table-{next(tables)}"])
        medians = alternate(
            {
                "sbert refresh": lambda: cold_seconds([sbert, "refresh", str(raw), f"table-{next(tables)}"]),
                "sentence-transformers, float32": lambda: cold_seconds(
                    [sys.executable, "-c", PEER, str(raw), str(locate_model(DEFAULT_MODEL))]
                ),
            },
            asked.rounds,
        )
    ours = medians["sbert refresh"]
    print_table(
        f"{asked.rows:,} short texts from a cold start, median of {asked.rounds}",
        ("", "seconds", "of ours"),
        [(way, seconds, f"{seconds / ours:.2f}") for way, seconds in medians.items()],
    )


if __name__ == "__main__":
    main()
