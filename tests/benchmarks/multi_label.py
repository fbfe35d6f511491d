"""Measure a head of several classes a row: which kinds of names a sentence has (none, one or several of four).

    python -m tests.benchmarks.multi_label /path/to/data             # 3,000 sentences to learn from, 1,500 to measure on
    python -m tests.benchmarks.multi_label /path/to/data --seeds 3

The folder holds `few_shot_ner/train.txt` and `test.txt` (a token and its tag a line). Sentences have five words at least. Texts
are encoded once by the packaged model; vectors are kept in `--cache`. Test sentences choose nothing. The line "plain" is
scikit-learn's logistic regression for each class on the same vectors, which names a class from a probability of 0.5 on.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier

from sbert import SentenceEncoder
from sbert.apply.classification.fit import HeadOrigin
from sbert.apply.classification.head import Float32
from sbert.apply.classification.multi_label_fit import fit_multi_label_head, truth_matrix
from sbert.apply.classification.multi_label_quality import measure_multi_label_head
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.words import HeadWords
from sbert.encoder.side import Side
from tests.benchmarks.harness import print_table

NUM_TRAIN, NUM_TEST = 3_000, 1_500
MIN_WORDS = 5
COLUMNS = (
    "macro-F1",
    "micro-F1",
    "whole lists right",
    "calibration error",
    "possible (mean)",
    "answered",
    "wrong among them",
    "s",
)


def sentences(path: Path, count: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Return sentences of a file, drawn at random, and the kinds of names that each has."""
    texts, kinds = [], []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split() for line in block.splitlines() if line.strip() and not line.startswith("-DOCSTART-")]
        if len(rows) >= MIN_WORDS:
            texts.append(" ".join(row[0] for row in rows))
            kinds.append(sorted({row[-1][2:] for row in rows if row[-1] != "O"}))
    drawn = np.random.default_rng(seed).permutation(len(texts))[:count].tolist()
    return [texts[at] for at in drawn], [kinds[at] for at in drawn]


def encoded(name: str, texts: list[str], cache: Path) -> Float32:
    """Return the vectors of texts, from the cache where they are there."""
    file = cache / f"{name}.npy"
    if not file.exists():
        np.save(file, SentenceEncoder.from_pretrained().encode(texts, side=Side.DOCUMENT))
    return np.asarray(np.load(file), np.float32)


def measured(data: Path, cache: Path, seed: int) -> list[list[object]]:
    """Return a line for the head, one without words, and one for plain logistic regression."""
    train, labels = sentences(data / "few_shot_ner/train.txt", NUM_TRAIN, seed)
    test, truth = sentences(data / "few_shot_ner/test.txt", NUM_TEST, seed)
    train_ND, test_ND = encoded(f"kinds_train_{seed}", train, cache), encoded(f"kinds_test_{seed}", test, cache)
    lines: list[list[object]] = []
    for name, words in (("vectors and words", HeadWords("text", train)), ("vectors", None)):
        began = time.process_time()
        head = fit_multi_label_head(
            train_ND, labels, HeadSettings(seed=seed),
            HeadOrigin(fingerprint="f", encoder_fingerprint="e", labels_fingerprint="l"), words=words,
        )  # fmt: skip
        seconds = time.process_time() - began
        quality = measure_multi_label_head(head, test_ND, truth, test)
        assert quality is not None
        assert quality.possible_coverage is not None
        wrong = quality.answered_error
        lines.append(
            [f"{seed}, {name}", *(f"{100 * share.value:.1f}" for share in (quality.macro_f1, quality.micro_f1, quality.subset_accuracy)),
             f"{quality.calibration_error:.3f}", f"{100 * quality.possible_coverage.value:.1f} ({quality.mean_possible:.2f})",
             f"{100 * quality.answered.value:.1f}", "" if wrong is None else f"{100 * wrong.value:.1f}", f"{seconds:.0f}"]
        )  # fmt: skip
    classes = sorted({name for names in labels for name in names})
    truth_NC = truth_matrix(truth, classes)
    plain = OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=1_000)).fit(train_ND, truth_matrix(labels, classes))
    named_NC = plain.predict(test_ND)
    exact = (named_NC == truth_NC).all(axis=1).mean()
    values = (f1_score(truth_NC, named_NC, average="macro"), f1_score(truth_NC, named_NC, average="micro"), exact)
    lines.append([f"{seed}, plain", *(f"{100 * value:.1f}" for value in values), "", "", "", "", ""])
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="folder for vectors")
    parser.add_argument("--seeds", type=int, default=1, help="how many draws of the sentences")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    lines = [line for seed in range(arguments.seeds) for line in measured(arguments.data, arguments.cache, seed)]
    print_table("kinds of names in a sentence, %", ("seed, head", *COLUMNS), lines)


if __name__ == "__main__":
    main()
