"""Measure the recall@10 of smaller vectors (int8, leading values) compared with whole float32 vectors.

    python -m tests.benchmarks.precision [RAW_URI] --model MODEL --rows 2000 --dims 256 128 64

The texts come from RAW_URI (column ``text``) or from the sample corpus. Search is exact, and each text is the query once.
"""

import argparse
import random
import tempfile

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.source.sample import write_sample
from sbert.vectors.precision import Precision, recall_at_10, reduce_vectors, restore, stored_dtype
from tests.benchmarks.harness import print_table, texts_under


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw_uri", nargs="?", help="Corpus with a column text. [the sample corpus]")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    parser.add_argument("--rows", type=int, default=2_000, help="Number of texts.")
    parser.add_argument("--dims", type=int, nargs="*", default=[256, 128, 64], help="Numbers of leading values.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.raw_uri is None:
            write_sample(folder)
        texts = sorted(set(texts_under(asked.raw_uri or folder, 10**9)))
    texts = random.Random(0).sample(texts, min(asked.rows, len(texts)))
    encoder = SentenceEncoder.from_pretrained(asked.model)
    exact_ND = encoder.encode(texts)
    rows = []
    for dim in [encoder.dim, *(dim for dim in asked.dims if dim < encoder.dim)]:
        for precision in Precision:
            stored = reduce_vectors(exact_ND, dim=dim, precision=precision, normalize=encoder.normalizes)
            recall = f"{recall_at_10(restore(stored), exact_ND):.4f}"
            rows.append((f"{precision.value}, {dim} values", stored_dtype(dim, precision).itemsize, recall))
    print_table(
        f"{asked.model}, {encoder.compute_dtype.value}, {len(texts):,} texts: recall@10 against float32, {encoder.dim} values",
        ("vectors", "bytes each", "recall@10"),
        rows,
    )


if __name__ == "__main__":
    main()
