"""Small jobs on a CPU: calls of `encode` with 1, 3, 24 and 100 texts, compared with sentence-transformers.

    python -m tests.benchmarks.small_jobs [--rounds 5] [--counts 1 3 24 100] [--cases short mixed long] [--compiled]

Each way runs in its own process, with the same threads and the same texts, after a warm-up. The ways take turns. A round of a way takes
about `--seconds`, in as many calls as fit, each with other texts. The table shows milliseconds for each call, and the median over the
rounds of their time divided by ours. No ratio may be below 1: a job of any size must be at least as fast as with sentence-transformers.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from tests.benchmarks.encode import COUNTS, Peer, make_cases, own_ways
from tests.benchmarks.harness import print_table

SIZES = (1, 3, 24, 100)


def compare(peers: dict[str, Peer], case: str, count: int, rounds: int, seconds: float) -> list[str]:
    """Return a row of the table: milliseconds of each way for a call, and its ratio to ours."""
    jobs = {}
    for way, peer in peers.items():  # a first pass as warm-up
        peer.rate(case, count)
        jobs[way] = max(1, round(seconds * peer.rate(case, count) / count))
    rates: dict[str, list[float]] = {way: [] for way in peers}
    for _ in range(rounds):
        for way, peer in peers.items():
            rates[way].append(peer.rate(case, count, jobs[way]))
    row = [f"{count} {case}", f"{1_000 * count / statistics.median(rates['ours']):.1f}"]
    for way in list(peers)[1:]:
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["ours"], rates[way], strict=True))
        row.append(f"{1_000 * count / statistics.median(rates[way]):.1f} ({ratio:.2f})")
    return row


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Rounds; medians are printed.")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="Time of a way in a round, at least one call (seconds)."
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    parser.add_argument("--counts", nargs="*", type=int, default=list(SIZES), help="Numbers of texts of a call.")
    parser.add_argument("--cases", nargs="*", default=list(COUNTS), help="Lengths of texts: short, mixed, long.")
    parser.add_argument(
        "--compiled", action="store_true", help="Also measure sentence-transformers through torch.compile."
    )
    arguments = parser.parse_args()
    model = str(locate_model(arguments.model))
    ways = [way for way in own_ways(model, compiled=arguments.compiled) if not way.startswith("ours-")]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(make_cases(None)), encoding="utf-8")
        peers = {way: stack.enter_context(Peer(way, sys.executable, model, str(texts))) for way in ways}
        rows = [
            compare(peers, case, count, arguments.rounds, arguments.seconds)
            for case in arguments.cases
            for count in arguments.counts
        ]
    print_table(
        f"Milliseconds for each call (their time divided by ours), medians of {arguments.rounds} rounds",
        ["texts of a call", *ways],
        rows,
    )


if __name__ == "__main__":
    main()
