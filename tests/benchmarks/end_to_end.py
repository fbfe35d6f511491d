"""Tune encoder and classifier together, and measure the heads that `sbert classify` makes of them.

    python -m tests.benchmarks.end_to_end /path/to/data FOLDER --case airline_tweets    # trains, then measures
    python -m tests.benchmarks.end_to_end /path/to/data FOLDER --case airline_tweets    # again: measures the model in FOLDER
    python -m tests.benchmarks.end_to_end /path/to/data FOLDER --case phrasebank --dev          # to compare settings

The data sets and the rows to measure on are those of `tests.benchmarks.classification`. Of the rows to learn from, eight of ten are
trained on, one of ten chooses the checkpoint, and one of ten is left for calibration. The recipe is `classes`. Three heads are
measured: that of `sbert classify`, which chooses and calibrates on the rows that are left; the same with the fitted heads alone; and
a fitted head that is chosen and calibrated on all rows, as for an encoder without a record of what it learned from.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import polars as pl

from sbert import SentenceEncoder
from sbert.apply.classification.encoder_classifier import FoundClassifier
from sbert.apply.classification.encoder_use import LearnedUse, told_of_encoder
from sbert.apply.classification.fit import HeadClassifier, HeadOrigin, fit_head
from sbert.apply.classification.head import Head
from sbert.apply.classification.learned_rows import FoundRecord
from sbert.apply.classification.settings import HeadSettings
from sbert.apply.classification.words import HeadWords
from sbert.encoder.side import Side
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.classifier_files import ClassifierFiles
from sbert.training.learned_texts import LearnedTexts
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import TrainingFields
from sbert.training.train import train_encoder
from tests.benchmarks.classification import Case, Rows, cases, figures_of
from tests.benchmarks.harness import print_table

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def train(case: Case, folder: Path, changes: str, seed: int) -> float:
    """Train encoder and classifier into a folder; return the processor time in seconds."""
    part = np.random.default_rng(seed).permutation(len(case.seen.texts)) % 10
    rows = pl.DataFrame(
        {
            "text": case.seen.texts,
            "label": case.seen.truth,
            "split": ["test" if at == 0 else "dev" if at == 1 else "train" for at in part.tolist()],
        }
    )
    labels = make_label_set(rows, LabelKind.CLASSES, LabelSettings(max_contradictions=1.0, max_leakage=1.0))
    settings = with_changes(RECIPES["classes"], TrainingFields.model_validate_json(changes))
    began = time.process_time()
    result = train_encoder(BASE, labels, settings, folder, checkpoints_uri=str(folder / "stored"))
    seconds = time.process_time() - began
    print(
        f"dev accuracy {result.dev_best:.4f} at step {result.best_step} of {result.num_steps}, {seconds:,.0f} s of processor"
    )
    return seconds


def encoded(encoder: SentenceEncoder, rows: Rows) -> Rows:
    """Return the rows with the vectors of a tuned encoder."""
    return Rows(encoder.encode(rows.texts, side=Side.DOCUMENT), rows.truth, rows.texts)


def heads(seen: Rows, model: str, settings: HeadSettings) -> dict[str, Head]:
    """Return the heads to measure, by name."""
    files, learned = ClassifierFiles.read(model), LearnedTexts.read(model)
    assert files is not None
    assert learned is not None
    texts = pl.Series(seen.texts)
    num_unseen = int((~(learned.has_labelled(texts) | learned.has_chosen(texts))).sum())
    record = FoundRecord(learned, LearnedUse(num_seen=len(texts) - num_unseen, num_unseen=num_unseen))
    found, deciding = FoundClassifier(files, record), record.of_rows(texts)
    candidates = {
        "sbert classify": (HeadClassifier(found.weights, found.use), deciding),
        "fitted heads alone": (None, deciding),
        "calibrated on all rows": (None, None),
    }
    return {
        name: fit_head(
            seen.vectors_ND,
            seen.truth.tolist(),
            settings,
            HeadOrigin(fingerprint="bench", encoder_fingerprint="", labels_fingerprint=""),
            words=HeadWords("text", seen.texts) if settings.words else None,
            classifier=classifier,
            deciding=deciding,
        )
        for name, (classifier, deciding) in candidates.items()
    }


def main() -> None:
    """Train where there is no model, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("folder", type=Path, help="folder for the model, checkpoints and vectors")
    parser.add_argument("--case", choices=("phrasebank", "airline_tweets", "banking77"), required=True, help="data set")
    parser.add_argument("--fold", type=int, default=0, help="fold of phrasebank that is measured on (0 to 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of parts and heads")
    parser.add_argument("--settings", default="{}", help="changes of the recipe, as a JSON object")
    parser.add_argument("--dev", action="store_true", help="train and print the dev accuracy, measure nothing")
    parser.add_argument("--vectors-only", action="store_true", help="without the words of the texts")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    case = next(itertools.islice(cases(given.data, given.folder, given.seed, given.case), given.fold, None))
    model = given.folder / "model"
    if not (model / "classifier.json").exists():
        train(case, given.folder, given.settings, given.seed)
    if given.dev:
        return
    encoder = SentenceEncoder.from_pretrained(model)
    seen, unseen = (encoded(encoder, rows) for rows in (case.seen, case.unseen))
    settings = HeadSettings(seed=given.seed, words=not given.vectors_only)
    found = []
    for name, head in heads(seen, str(model), settings).items():
        told = told_of_encoder(head.record.classifier, head.record.learned) or ["all rows calibrate"]
        print(f"{name}: {' '.join(told)}", flush=True)
        found.append(figures_of(head, f"{given.case}, {name}", unseen))
    rows = [
        tuple(value if isinstance(value, str) else f"{value:.3f}" if name in {"ECE", "by chance"} else f"{value:.1f}"
              for name, value in row.items())
        for row in found
    ]  # fmt: skip
    print_table(
        f"Encoder and classifier tuned together, {len(unseen.truth):,} rows that chose nothing", list(found[0]), rows
    )


if __name__ == "__main__":
    main()
