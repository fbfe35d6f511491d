"""Measure heads on frozen vectors: accuracy, calibration, sets, abstention.

    python -m tests.benchmarks.classification /path/to/data                  # phrasebank, airline_tweets, banking77
    python -m tests.benchmarks.classification /path/to/data --case banking77 # one of them
    python -m tests.benchmarks.classification /path/to/data --seeds 3        # medians of three seeds
    python -m tests.benchmarks.classification /path/to/data --vectors-only   # without the words of the texts
    python -m tests.benchmarks.classification /path/to/data --dev            # on rows that heads are fitted on
    python -m tests.benchmarks.classification /path/to/data --search 40      # with a search of settings after the grid
    python -m tests.benchmarks.classification /path/to/data --rules phrasebank  # 5 % of the labels, with and without rules

The folder holds `phrasebank/all-data.csv` (label, content; Latin-1), `airline_tweets/Tweets.csv` and `banking77/train.csv` and
`test.csv`. Texts are encoded once by the packaged model; vectors are kept in `--cache`. Test rows choose nothing.
A perfectly calibrated head has a calibration error too, by chance; its mean is shown in brackets. What a large table costs:
`tests.benchmarks.classification_night`.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from sbert import SentenceEncoder
from sbert.apply.classification.calibration import calibration_error
from sbert.apply.classification.fit import HeadOrigin, fit_head
from sbert.apply.classification.head import Float32, Head
from sbert.apply.classification.settings import HeadSearchSettings, HeadSettings
from sbert.apply.classification.words import HeadWords
from sbert.encoder.side import Side
from tests.benchmarks.classification_rules import RuleCase, measure_rules, name_rules, sentiment_rules
from tests.benchmarks.harness import print_table

SENTIMENTS = ("negative", "neutral", "positive")
AIRLINE_TRAIN = 0.7
"""Share of the tweets, the earliest, that is learned from."""
DEV_SHARE = {"airline_tweets": 0.25}
"""Share of the rows to learn from that `--dev` measures on: the latest of the tweets, else a fifth at random."""
NUM_DRAWS = 200


@dataclass(frozen=True)
class Rows:
    """Labelled rows."""

    vectors_ND: Float32
    truth: np.ndarray
    texts: list[str]

    def take(self, rows: np.ndarray) -> "Rows":
        """Return some of them."""
        return Rows(self.vectors_ND[rows], self.truth[rows], [self.texts[row] for row in rows.tolist()])


@dataclass(frozen=True)
class Case:
    """Rows to learn from, and rows to measure on."""

    name: str
    seen: Rows
    unseen: Rows


def encoded(name: str, texts: list[str], cache: Path) -> Float32:
    """Return the vectors of texts, from the cache where they are there."""
    file = cache / f"{name}.npy"
    if not file.exists():
        np.save(file, SentenceEncoder.from_pretrained().encode(texts, side=Side.DOCUMENT))
    return np.asarray(np.load(file), np.float32)


def cases(data: Path, cache: Path, seed: int, wanted: str | None = None) -> Iterator[Case]:
    """Yield the rows to learn from and to measure on; of one data set where one is wanted."""
    for name, cases_of in (("phrasebank", _phrasebank), ("airline_tweets", _airline), ("banking77", _banking)):
        if wanted in {None, name}:
            yield from cases_of(data, cache, seed)


def dev_case(case: Case, seed: int) -> Case:
    """Return a case that is measured on some of its train rows, and learns from the others."""
    places = np.arange(len(case.seen.truth))
    if case.name in DEV_SHARE:
        first = round((1 - DEV_SHARE[case.name]) * len(places))
        seen, unseen = places[:first], places[first:]
    else:
        seen, unseen = train_test_split(places, test_size=0.2, stratify=case.seen.truth, random_state=seed)
    return Case(f"{case.name}, dev", case.seen.take(seen), case.seen.take(unseen))


def _phrasebank(data: Path, cache: Path, seed: int) -> Iterator[Case]:
    records = [
        row for row in csv.reader((data / "phrasebank/all-data.csv").open(encoding="latin-1")) if row[0] in SENTIMENTS
    ]
    texts = [row[1] for row in records]
    rows = Rows(encoded("phrasebank", texts, cache), np.array([row[0] for row in records]), texts)
    for seen, unseen in StratifiedKFold(5, shuffle=True, random_state=seed).split(rows.vectors_ND, rows.truth):
        yield Case("phrasebank", rows.take(seen), rows.take(unseen))


def _airline(data: Path, cache: Path, _: int) -> Iterator[Case]:
    tweets = pl.read_csv(data / "airline_tweets/Tweets.csv", infer_schema_length=0, encoding="utf8-lossy")
    tweets = tweets.filter(pl.col("airline_sentiment").is_in(SENTIMENTS) & pl.col("text").is_not_null())
    tweets = tweets.with_columns(pl.col("tweet_created").cast(pl.Float64)).sort("tweet_created", maintain_order=True)
    texts = tweets["text"].to_list()
    rows = Rows(encoded("airline", texts, cache), tweets["airline_sentiment"].to_numpy(), texts)
    places, first = np.arange(len(texts)), int(AIRLINE_TRAIN * len(texts))
    yield Case("airline_tweets", rows.take(places[:first]), rows.take(places[first:]))


def _banking(data: Path, cache: Path, _: int) -> Iterator[Case]:
    parts = {name: pl.read_csv(data / f"banking77/{name}.csv") for name in ("train", "test")}
    seen, unseen = (
        Rows(
            encoded(f"banking_{name}", part["text"].to_list(), cache),
            part["category"].to_numpy(),
            part["text"].to_list(),
        )
        for name, part in parts.items()
    )
    yield Case("banking77", seen, unseen)


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


def fitted(rows: Rows, settings: HeadSettings) -> Head:
    """Fit a head."""
    return fit_head(
        rows.vectors_ND,
        rows.truth.tolist(),
        settings,
        HeadOrigin(fingerprint="bench", encoder_fingerprint="", labels_fingerprint=""),
        words=HeadWords("text", rows.texts) if settings.words else None,
    )


def chance_error(confidence_N: np.ndarray) -> float:
    """Return the mean calibration error of rows that are right exactly as often as their probability says."""
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence_N)) < confidence_N for _ in range(NUM_DRAWS))
    return float(np.mean([calibration_error(confidence_N, right_N) for right_N in draws]))


def measured(case: Case, settings: HeadSettings) -> dict[str, float | str]:
    """Fit a head and return its figures on the rows to measure on."""
    began = time.process_time()
    head = fitted(case.seen, settings)
    if head.record.search is not None:
        print(head.record.search.told())
    return figures_of(head, case.name, case.unseen) | {"fit, s": time.process_time() - began}


def figures_of(head: Head, name: str, rows: Rows) -> dict[str, float | str]:
    """Return the figures of a head on rows that chose nothing."""
    unseen = rows.truth
    probabilities_NC = head.probabilities(rows.vectors_ND, rows.texts)
    predicted = np.array(head.classes)[probabilities_NC.argmax(axis=1)]
    right_N, confidence_N = predicted == unseen, probabilities_NC.max(axis=1)
    answered_N, sets_NC = ~head.abstains(probabilities_NC), head.sets(probabilities_NC)
    covered_N = sets_NC[np.arange(len(unseen)), np.searchsorted(head.classes, unseen)]
    words = 0.0 if head.record.words is None else head.record.words.weight
    return {
        "case": name,
        "head": f"{head.record.kind.value} {head.record.strength:g}, words {words:g}",
        "accuracy": 100 * accuracy_score(unseen, predicted),
        "macro-F1": 100 * f1_score(unseen, predicted, average="macro"),
        "ECE": calibration_error(confidence_N, right_N),
        "by chance": chance_error(confidence_N),
        "in 90 % sets": 100 * covered_N.mean(),
        "set size": sets_NC.sum(axis=1).mean(),
        "answered": 100 * answered_N.mean(),
        "wrong of them": 100 * (~right_N[answered_N]).mean() if answered_N.any() else float("nan"),
    }


def _shown(value: float | str, name: str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.3f}" if name in {"ECE", "by chance"} else f"{value:.2f}" if name == "set size" else f"{value:.1f}"


def show_medians(results: list[dict[str, float | str]]) -> None:
    """Print for each case the median over folds and seeds, and the range."""
    rows = []
    for name in dict.fromkeys(str(row["case"]) for row in results):
        of_case = [row for row in results if row["case"] == name]
        cells = [f"{name} ({len(of_case)})"]
        for key in list(of_case[0])[2:]:
            values = [float(row[key]) for row in of_case]
            spread = f" ({_shown(min(values), key)} to {_shown(max(values), key)})" if len(values) > 1 else ""
            cells.append(f"{_shown(float(np.median(values)), key)}{spread}")
        rows.append(tuple(cells))
    columns = ("case (fits)", *list(results[0])[2:])
    print_table("Heads on frozen vectors of all-MiniLM-L6-v2: medians (ranges)", columns, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="folder for vectors")
    parser.add_argument("--seed", type=int, default=0, help="first seed of folds and heads")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--vectors-only", action="store_true", help="without the words of the texts")
    parser.add_argument("--dev", action="store_true", help="measure on some of the rows to learn from, and no others")
    parser.add_argument("--search", type=int, default=0, help="trials of a search of settings after the grid")
    parser.add_argument("--folds", type=int, default=5, help="with --case: how many of its folds, the first")
    parser.add_argument("--case", choices=("phrasebank", "airline_tweets", "banking77"), help="one data set alone")
    parser.add_argument("--rules", choices=("phrasebank", "banking77"), help="what rules add to 5 %% of the labels")
    given = parser.parse_args()
    if given.rules:
        selected = [case for case in rule_cases(given.data, given.cache) if case[0] == given.rules]
        measure_rules(selected, range(given.seed, given.seed + 3))
        return
    given.cache.mkdir(parents=True, exist_ok=True)
    search = HeadSearchSettings(trials=given.search) if given.search else None
    settings = HeadSettings(seed=given.seed, words=not given.vectors_only, search=search)
    results = []
    for seed in range(given.seed, given.seed + given.seeds):
        for case in islice(cases(given.data, given.cache, seed, given.case), given.folds if given.case else None):
            measured_case = dev_case(case, seed) if given.dev else case
            results.append(measured(measured_case, settings.model_copy(update={"seed": seed})))
            print(seed, *(_shown(value, name) for name, value in results[-1].items()), sep="  ", flush=True)
    show_medians(results)


if __name__ == "__main__":
    main()
