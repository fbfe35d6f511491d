"""Compare Spearman's correlation on STS Benchmark: our encoder and sentence-transformers, same model, same pairs.

    python -m tests.benchmarks.sts /data/stsb/stsb-en-test.csv [--model M]

The file has no header. Its columns are two sentences and a score from 0 to 5.
"""

import argparse

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.benchmarks.harness import alternate, print_table


def spearman_percent(left_ND: np.ndarray, right_ND: np.ndarray, scores: np.ndarray) -> float:
    """Return 100 times the rank correlation of cosine and score."""
    cosine = (left_ND * right_ND).sum(1) / np.linalg.norm(left_ND, axis=1) / np.linalg.norm(right_ND, axis=1)
    return 100 * float(spearmanr(cosine, scores).statistic)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", help="CSV without header: two sentences and a score.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    asked = parser.parse_args()
    pairs = pl.read_csv(asked.pairs, has_header=False, new_columns=["left", "right", "score"])
    scores = pairs["score"].to_numpy()
    texts = [*pairs["left"], *pairs["right"]]

    from sentence_transformers import SentenceTransformer

    ours = SentenceEncoder.from_pretrained(asked.model)
    theirs = SentenceTransformer(str(locate_model(asked.model)), device=str(ours.device))
    vectors: dict[str, np.ndarray] = {}

    def encode_ours() -> None:
        vectors["this encoder"] = ours.encode(texts)

    def encode_theirs() -> None:
        vectors["sentence-transformers"] = theirs.encode(texts, batch_size=32)

    medians = alternate({"this encoder": encode_ours, "sentence-transformers": encode_theirs}, rounds=1)
    print_table(
        f"{asked.pairs}: {pairs.height:,} pairs, {asked.model}",
        ("encoder", "Spearman x 100", "texts/s"),
        [
            (name, f"{spearman_percent(*np.split(vectors[name], 2), scores):.2f}", len(texts) / medians[name])
            for name in medians
        ],
    )
    difference = float(np.abs(vectors["this encoder"] - vectors["sentence-transformers"]).max())
    print(f"largest difference of two vectors: {difference:.1e}")


if __name__ == "__main__":
    main()
