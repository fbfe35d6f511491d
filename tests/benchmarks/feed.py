"""What the one process that feeds an accelerator spends on each token, before anything is computed; no accelerator needed.

    python -m tests.benchmarks.feed --texts RAW --processes 2

Nanoseconds of the feeding process a token, which no other core can take over: what needs Python's lock (walking the lists of
ids that the tokenizer hands out, or receiving arrays from processes that walked them), laying tokens out in batches, and
copying them. Its inverse is the most tokens a second that one process can feed. The peer is the same encoder without
processes, in turns.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console

from sbert.encoder.engine.budget import GPU_TOKENS
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.pool import TokenizerPool
from tests.benchmarks.harness import alternate, print_table, texts_under

BLOCK = 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", help="a corpus with a column text; made-up texts without it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
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

    found = alternate(
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
        [[name, f"{value:.1f}"] for name, value in found.items()],
    )
    rest = found["laying out and copying"]
    for name in ("tokenizer's threads", "processes"):
        rate = 1e3 / (found[f"ids, {name}"] + rest)
        Console().print(f"most that one process can feed, {name}: {rate:.1f} million tokens a second")


if __name__ == "__main__":
    main()
