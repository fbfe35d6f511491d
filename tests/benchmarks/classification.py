"""Measure heads on frozen vectors: accuracy, calibration, sets, abstention, and what a night costs.

    python -m tests.benchmarks.classification /path/to/data                  # phrasebank, airline_tweets, banking77
    python -m tests.benchmarks.classification /path/to/data --case banking77 # one of them
    python -m tests.benchmarks.classification /path/to/data --night 200000   # time of classifying that many rows
    python -m tests.benchmarks.classification /path/to/data --rules phrasebank  # 5 % of the labels, with and without rules

The folder holds `phrasebank/all-data.csv` (label, content; Latin-1), `airline_tweets/Tweets.csv` and `banking77/train.csv` and
`test.csv`. Texts are encoded once by the packaged model; vectors are kept in `--cache`. Test rows choose nothing.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from sbert import SentenceEncoder
from sbert.apply.classification.calibration import calibration_error
from sbert.apply.classification.fit import fit_head
from sbert.apply.classification.head import Float32, Head
from sbert.apply.classification.job import ClassificationJob, HeadName
from sbert.apply.classification.settings import HeadSettings
from sbert.derived.run import derive
from sbert.encoder.side import Side
from sbert.table.delta import Table
from tests.benchmarks.classification_rules import RuleCase, measure_rules, name_rules, sentiment_rules
from tests.benchmarks.derived import add_objects
from tests.benchmarks.harness import print_table
from tests.benchmarks.sync import ROWS_PER_OBJECT, make_table

Case = tuple[str, Float32, np.ndarray, Float32, np.ndarray]
SENTIMENTS = ("negative", "neutral", "positive")
AIRLINE_TRAIN = 0.7
"""Share of the tweets, the earliest, that is learned from."""


def encoded(name: str, texts: list[str], cache: Path) -> Float32:
    """Return the vectors of texts, from the cache where they are there."""
    file = cache / f"{name}.npy"
    if not file.exists():
        np.save(file, SentenceEncoder.from_pretrained().encode(texts, side=Side.DOCUMENT))
    return np.asarray(np.load(file), np.float32)


def cases(data: Path, cache: Path, seed: int, wanted: str | None = None) -> Iterator[Case]:
    """Yield name, vectors and classes to learn from, and those to measure on; of one data set where one is wanted."""
    for name, found in (("phrasebank", _phrasebank), ("airline_tweets", _airline), ("banking77", _banking)):
        if wanted in {None, name}:
            yield from found(data, cache, seed)


def _phrasebank(data: Path, cache: Path, seed: int) -> Iterator[Case]:
    rows = [
        row for row in csv.reader((data / "phrasebank/all-data.csv").open(encoding="latin-1")) if row[0] in SENTIMENTS
    ]
    vectors_ND, truth = encoded("phrasebank", [row[1] for row in rows], cache), np.array([row[0] for row in rows])
    for fold, (seen, unseen) in enumerate(StratifiedKFold(5, shuffle=True, random_state=seed).split(vectors_ND, truth)):
        yield f"phrasebank, fold {fold}", vectors_ND[seen], truth[seen], vectors_ND[unseen], truth[unseen]


def _airline(data: Path, cache: Path, _: int) -> Iterator[Case]:
    tweets = pl.read_csv(data / "airline_tweets/Tweets.csv", infer_schema_length=0, encoding="utf8-lossy")
    tweets = tweets.filter(pl.col("airline_sentiment").is_in(SENTIMENTS) & pl.col("text").is_not_null())
    tweets = tweets.with_columns(pl.col("tweet_created").cast(pl.Float64)).sort("tweet_created", maintain_order=True)
    vectors_ND, truth = encoded("airline", tweets["text"].to_list(), cache), tweets["airline_sentiment"].to_numpy()
    first = int(AIRLINE_TRAIN * len(truth))
    yield "airline_tweets, later 30 %", vectors_ND[:first], truth[:first], vectors_ND[first:], truth[first:]


def _banking(data: Path, cache: Path, _: int) -> Iterator[Case]:
    parts = {name: pl.read_csv(data / f"banking77/{name}.csv") for name in ("train", "test")}
    vectors = {name: encoded(f"banking_{name}", part["text"].to_list(), cache) for name, part in parts.items()}
    yield (
        "banking77", vectors["train"], parts["train"]["category"].to_numpy(), vectors["test"],
        parts["test"]["category"].to_numpy(),
    )  # fmt: skip


def rule_cases(data: Path, cache: Path) -> list[RuleCase]:
    """Return phrasebank (a fifth is measured on) and banking77 with their rules."""
    rows = [
        row for row in csv.reader((data / "phrasebank/all-data.csv").open(encoding="latin-1")) if row[0] in SENTIMENTS
    ]
    texts, truth = [row[1] for row in rows], np.array([row[0] for row in rows])
    vectors_ND = encoded("phrasebank", texts, cache)
    seen, unseen = next(iter(StratifiedKFold(5, shuffle=True, random_state=0).split(vectors_ND, truth)))
    pick = [[texts[row] for row in part.tolist()] for part in (seen, unseen)]
    parts = [pl.read_csv(data / f"banking77/{name}.csv") for name in ("train", "test")]
    train_ND, test_ND = (
        encoded(f"banking_{name}", part["text"].to_list(), cache)
        for name, part in zip(("train", "test"), parts, strict=True)
    )
    train, test = (part["category"].to_numpy() for part in parts)
    return [
        ("phrasebank", vectors_ND[seen], truth[seen], pick[0], vectors_ND[unseen], truth[unseen], pick[1], sentiment_rules()),
        ("banking77", train_ND, train, parts[0]["text"].to_list(), test_ND, test, parts[1]["text"].to_list(),
         name_rules(train.tolist())),
    ]  # fmt: skip


def fitted(vectors_ND: Float32, truth: np.ndarray, settings: HeadSettings) -> Head:
    """Fit a head."""
    return fit_head(
        vectors_ND, truth.tolist(), settings, fingerprint="bench", encoder_fingerprint="", labels_fingerprint=""
    )


def measured(case: Case, settings: HeadSettings) -> tuple[str, ...]:
    """Fit a head and return its figures on the rows to measure on."""
    name, seen_ND, seen, unseen_ND, unseen = case
    began = time.process_time()
    head = fitted(seen_ND, seen, settings)
    seconds = time.process_time() - began
    probabilities_NC = head.probabilities(unseen_ND)
    predicted = np.array(head.classes)[probabilities_NC.argmax(axis=1)]
    right_N, confidence_N = predicted == unseen, probabilities_NC.max(axis=1)
    answered_N, sets_NC = ~head.abstains(probabilities_NC), head.sets(probabilities_NC)
    covered_N = sets_NC[np.arange(len(unseen)), np.searchsorted(head.classes, unseen)]
    error = f"{(~right_N[answered_N]).mean():.1%}" if answered_N.any() else ""
    return (
        name, f"{head.record.kind.value} {head.record.strength:g}", f"{accuracy_score(unseen, predicted):.2%}",
        f"{f1_score(unseen, predicted, average='macro'):.2%}", f"{calibration_error(confidence_N, right_N):.3f}",
        f"{covered_N.mean():.1%} ({sets_NC.sum(axis=1).mean():.2f})", f"{answered_N.mean():.1%}", error, f"{seconds:.0f}",
    )  # fmt: skip


def night(num_rows: int, case: Case, settings: HeadSettings) -> None:
    """Print the time of classifying a table: a full run, nothing changed, 1 % of the rows in new objects."""
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as folder:
        uri, out = str(Path(folder) / "table"), str(Path(folder) / "out")
        num_objects = max(1, num_rows // ROWS_PER_OBJECT)
        make_table(uri, num_objects)
        head = fitted(case[1], case[2], settings)
        record = head.record.model_copy(update={"encoder_fingerprint": Table.open(uri).encoder.fingerprint})
        replace(head, record=record).save(out)
        job = ClassificationJob(heads=(HeadName(task="", fingerprint=record.fingerprint),), heads_uri=out)
        full, unchanged = (derive(job, uri, out, concurrency=2).seconds for _ in range(2))
        add_objects(uri, max(1, num_objects // 100), num_objects)
        new = derive(job, uri, out, concurrency=2).seconds
    print_table(
        f"{num_objects * ROWS_PER_OBJECT:,} rows, {len(head.classes)} classes, a {record.kind.value} head",
        ("run", "seconds", "of the full run"),
        [
            (name, f"{seconds:.2f}", f"{seconds / full:.2%}")
            for name, seconds in (("full", full), ("nothing changed", unchanged), ("1 % in new objects", new))
        ],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="folder for vectors")
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and heads")
    parser.add_argument("--case", choices=("phrasebank", "airline_tweets", "banking77"), help="one data set alone")
    parser.add_argument("--night", type=int, metavar="ROWS", help="measure the time of classifying instead")
    parser.add_argument("--rules", choices=("phrasebank", "banking77"), help="what rules add to 5 %% of the labels")
    given = parser.parse_args()
    if given.rules:
        chosen = [case for case in rule_cases(given.data, given.cache) if case[0] == given.rules]
        measure_rules(chosen, range(given.seed, given.seed + 3))
        return
    settings = HeadSettings(seed=given.seed)
    given.cache.mkdir(parents=True, exist_ok=True)
    if given.night:
        (case,) = cases(given.data, given.cache, given.seed, "banking77")
        night(given.night, case, settings)
        return
    rows = []
    for case in cases(given.data, given.cache, given.seed, given.case):
        rows.append(measured(case, settings))
        print(*rows[-1], sep="  ", flush=True)
    print_table(
        "Heads on frozen vectors of all-MiniLM-L6-v2, test rows",
        (
            "case",
            "head",
            "accuracy",
            "macro-F1",
            "ECE",
            "90 % sets (size)",
            "answered at 5 %",
            "error",
            "processor s of the fit",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
