"""Measure how many rows one core cleans and hashes in a second; the goal is 300,000 short rows.

    python -m tests.benchmarks.cleaning [RAW_URI] --rows 300000 --rounds 5

The texts come from RAW_URI (column ``text``), or are generated. Polars uses one thread. The benchmark measures the CPU time of the
process, so other load on the machine does not change the result.
"""

import argparse
import os
import time

os.environ["POLARS_MAX_THREADS"] = "1"  # before Polars is imported

import polars as pl

from sbert.rows.cleaning import CleaningSettings, clean
from tests.benchmarks.harness import alternate, print_table, texts_under


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw_uri", nargs="?", help="Corpus with a column text. [generated texts]")
    parser.add_argument("--rows", type=int, default=300_000, help="Number of texts.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds; medians are printed.")
    asked = parser.parse_args()
    texts = texts_under(asked.raw_uri, asked.rows)
    dirty = [
        f"<p>{text} &amp; more</p>\u00a0 <b>bold</b>" if number % 10 == 0 else text for number, text in enumerate(texts)
    ]
    kinds = {"as they are": texts, "one in ten with HTML": dirty}
    settings = {"default rules": CleaningSettings(), "with masks": CleaningSettings(mask_urls=True, mask_emails=True)}

    def cleaned(rows: pl.DataFrame, rules: CleaningSettings) -> float:
        began = time.process_time()
        for first in range(0, rows.height, 8_192):  # blocks as the flow has them
            clean(rows.slice(first, 8_192), rules)
        return time.process_time() - began

    cases = {}
    for kind, values in kinds.items():
        ids = pl.Series(range(len(values)), dtype=pl.Int64)
        rows = pl.DataFrame({"source": "a.jsonl", "row": ids, "id": ids.cast(pl.String), "text": values})
        for rules, cleaning in settings.items():
            cases[f"{kind}, {rules}"] = lambda rows=rows, cleaning=cleaning: cleaned(rows, cleaning)
    medians = alternate(cases, asked.rounds)
    characters = sum(map(len, texts)) / len(texts)
    print_table(
        f"cleaning and hashing {len(texts):,} texts of {characters:.0f} characters, one core, median of {asked.rounds}",
        ("texts", "rows/s"),
        [(name, len(texts) / seconds) for name, seconds in medians.items()],
    )


if __name__ == "__main__":
    main()
