"""Measure the cost of the flow beside the encoder: a whole refresh compared with `encode` alone, and a refresh without changes.

    python -m tests.benchmarks.flow [RAW_URI] --rows 50000 --rounds 3 [--model M | --tiny]
    python -m tests.benchmarks.flow --no-op 1000

Each round measures `encode` on all texts, then the flow from raw text to commit. Both run in one process with one loaded encoder and
Prefect's temporary server. Planning and committing are included; the start of the server is not. ``--tiny`` uses an encoder that costs almost
nothing: its CPU seconds are the flow's own cost, and other load on the machine does not change them. ``--profile`` prints which functions take the time.
"""

import argparse
import cProfile
import json
import os
import pstats
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.benchmarks.harness import alternate, print_table, texts_under, tiny_model


def write_corpus(folder: Path, texts: list[str], num_objects: int) -> str:
    """Write texts as JSON Lines."""
    folder.mkdir()
    for number in range(num_objects):
        part = range(number, len(texts), num_objects)
        lines = (json.dumps({"id": str(at), "text": texts[at]}) + "\n" for at in part)
        (folder / f"part-{number:05d}.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder)


def refresh_rate(folder: Path, texts: list[str], model: str | None, rounds: int) -> None:
    """Compare a whole refresh with `encode` alone."""
    from flows.refresh import refresh_embeddings
    from sbert.encoder.description import EncoderSpec
    from sbert.encoder.model_location import DEFAULT_MODEL
    from sbert.encoder.process_cache import load_encoder

    raw = write_corpus(folder / "raw", texts, num_objects=8)
    encoder = load_encoder(EncoderSpec(model=model or DEFAULT_MODEL, normalize=True))
    tables = iter(range(10**6))
    cpu_seconds: dict[str, list[float]] = {"encode alone": [], "whole refresh": []}

    def timed(name: str, call: Callable[[], object]) -> float:
        began, began_cpu = time.perf_counter(), time.process_time()
        call()
        cpu_seconds[name].append(time.process_time() - began_cpu)
        return time.perf_counter() - began

    def whole() -> None:
        report = refresh_embeddings(raw_uri=raw, table_uri=str(folder / f"table-{next(tables)}"), model=model)
        assert report.num_rows == len(texts), report

    whole()  # warm: imports, threads, allocator
    medians = alternate(
        {
            "encode alone": lambda: timed("encode alone", lambda: encoder.encode(texts)),
            "whole refresh": lambda: timed("whole refresh", whole),
        },
        rounds,
    )
    cpu = {name: statistics.median(values) for name, values in cpu_seconds.items()}
    alone, alone_cpu = medians["encode alone"], cpu["encode alone"]
    print_table(
        f"{len(texts):,} texts, {model or DEFAULT_MODEL}, median of {rounds}",
        ("", "seconds", "rows/s", "of encode's rate", "CPU seconds", "of encode's, by CPU"),
        [
            (name, seconds, len(texts) / seconds, f"{alone / seconds:.1%}", cpu[name], f"{alone_cpu / cpu[name]:.1%}")
            for name, seconds in medians.items()
        ],
    )


def no_op(folder: Path, num_objects: int, rounds: int) -> None:
    """Measure a refresh that finds no changes."""
    from flows.refresh import refresh_embeddings

    model = tiny_model(folder / "model")
    raw = write_corpus(folder / "raw", texts_under(None, num_objects * 5), num_objects)
    kinds = {"in packs": {}, "one split each": {"splits": {"pack_below_bytes": 0}}}

    def again(kind: str) -> float:
        began = time.perf_counter()
        report = refresh_embeddings(raw_uri=raw, table_uri=str(folder / kind), settings=kinds[kind])  # type: ignore[arg-type]
        assert report.version == 0
        assert report.num_splits_built == 0
        return time.perf_counter() - began

    for kind, settings in kinds.items():
        refresh_embeddings(raw_uri=raw, table_uri=str(folder / kind), model=model, settings=settings)  # type: ignore[arg-type]
    medians = alternate({kind: lambda kind=kind: again(kind) for kind in kinds}, rounds)  # type: ignore[misc]
    print_table(
        f"planning and refresh over {num_objects:,} unchanged objects, median of {rounds}",
        ("objects", "seconds"),
        list(medians.items()),
    )


def profiled(folder: Path, texts: list[str], model: str) -> None:
    """Print the time that all threads of a refresh spent, by function."""
    from flows.refresh import refresh_embeddings

    raw = write_corpus(folder / "raw", texts, num_objects=8)
    refresh_embeddings(raw_uri=raw, table_uri=str(folder / "warm"), model=model)
    profiles: list[cProfile.Profile] = []
    run = threading.Thread.run

    def run_profiled(self: threading.Thread) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.runcall(run, self)

    threading.Thread.run = run_profiled  # type: ignore[method-assign]
    refresh_embeddings(raw_uri=raw, table_uri=str(folder / "table"), model=model, concurrency=1)
    threading.Thread.run = run  # type: ignore[method-assign]
    stats = pstats.Stats(*[profile for profile in profiles if profile.getstats()])
    stats.sort_stats("tottime").print_stats(25)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw_uri", nargs="?", help="Corpus with a column text. [generated texts]")
    parser.add_argument("--rows", type=int, default=50_000, help="Number of texts.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; medians are printed.")
    parser.add_argument("--model", help="Encoder. [the packaged one]")
    parser.add_argument("--tiny", action="store_true", help="Use an encoder that costs almost nothing.")
    parser.add_argument(
        "--no-op", type=int, metavar="OBJECTS", help="Measure only a refresh without changes over so many objects."
    )
    parser.add_argument(
        "--profile", action="store_true", help="Print which functions take the flow's time (tiny encoder)."
    )
    asked = parser.parse_args()
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name, prefect_test_harness(server_startup_timeout=90):
        folder = Path(name)
        if asked.no_op:
            no_op(folder, asked.no_op, asked.rounds)
            return
        texts = texts_under(asked.raw_uri, asked.rows)
        if asked.profile:
            profiled(folder, texts, tiny_model(folder / "model"))
            return
        model = tiny_model(folder / "model") if asked.tiny else asked.model
        refresh_rate(folder, texts, model, asked.rounds)


if __name__ == "__main__":
    main()
