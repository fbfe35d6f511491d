"""Measure how many tokens per second one process can hand to an accelerator; no accelerator is needed.

    python -m tests.benchmarks.feed --texts RAW --processes 2

The benchmark measures the nanoseconds per token that only the main process can spend. They are the work under Python's lock (reading
the tokenizer's lists of ids, or receiving arrays from tokenizer processes), laying tokens out in batches, and copying them. The inverse is
the largest number of tokens per second that one process can supply. The same encoder without tokenizer processes is measured in turns.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console

from sbert.encoder.engine.budget import GPU_TOKENS
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.process_pool import TokenizerPool
from tests.benchmarks.harness import alternate, print_table, texts_under

BLOCK = 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", help="Raw URI of a corpus with a column text. [generated texts]")
    parser.add_argument("--processes", type=int, default=2, help="Tokenizer processes.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds; medians are printed.")
    arguments = parser.parse_args()
    texts = texts_under(arguments.texts, BLOCK)
    encoder = SentenceEncoder.from_pretrained(device="cpu")
    alone = TokenizerPool(encoder._tokenizer, 0)
    pool = TokenizerPool(encoder._tokenizer, arguments.processes)
    tokens = encoder.tokenize(texts)
    num_tokens = len(tokens.input_ids)
    np.testing.assert_array_equal(pool.token_ids(texts)[0], alone.token_ids(texts)[0])
    runner = encoder.packed_runner()
    assert runner is not None

    def lay_out() -> None:
        for batch in runner.cut(tokens, np.arange(len(tokens.lengths)), GPU_TOKENS):
            ids = np.where(batch.tokens < 0, 0, tokens.input_ids[batch.tokens]).astype(np.int64)
            for array in (ids, batch.positions, batch.owner):
                array.copy()

    def spent(clock: Callable[[], float], work: Callable[[], object]) -> float:
        began = clock()
        work()
        return (clock() - began) / num_tokens * 1e9

    timings = alternate(
        {
            # The tokenizer's threads need no lock of Python: only the calling thread counts.
            "ids, tokenizer's threads": lambda: spent(time.thread_time, lambda: alone.token_ids(texts)),
            # All threads of this process count: some send texts, some receive arrays.
            "ids, processes": lambda: spent(time.process_time, lambda: pool.token_ids(texts)),
            "laying out and copying": lambda: spent(time.process_time, lay_out),
            "wall, tokenizer's threads": lambda: spent(time.perf_counter, lambda: alone.token_ids(texts)),
            "wall, processes": lambda: spent(time.perf_counter, lambda: pool.token_ids(texts)),
        },
        arguments.rounds,
    )
    print_table(
        f"{len(texts):,} texts, {num_tokens:,} tokens, {arguments.processes} processes",
        ["what", "ns a token"],
        [[name, f"{value:.1f}"] for name, value in timings.items()],
    )
    rest = timings["laying out and copying"]
    for name in ("tokenizer's threads", "processes"):
        rate = 1e3 / (timings[f"ids, {name}"] + rest)
        Console().print(f"one process can supply at most, {name}: {rate:.1f} million tokens per second")


if __name__ == "__main__":
    main()
