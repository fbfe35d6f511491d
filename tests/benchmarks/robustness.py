"""Robustness sets: what a recipe does to them, what rehearsal keeps, and what training on made negatives gains.

python -m tests.benchmarks.robustness DATA [--rows 1500] [--epochs 1] [--rehearsal 0 1] [--seeds 0 1]

DATA holds ``stsb/`` (STS Benchmark) and ``banking77/``. Each case trains the packaged encoder on some rows of train by a
recipe, once with each weight of rehearsal: on the labels alone, and for STS also on made rows (a text and itself in other words: score 1; a text and its
negation, or with another number: score ``--score``). Robustness sets are made from test texts, as in a retraining. The made
rows and these sets share their openings, so a second contrast has none of them: real paraphrases of STS test (score 4 or
more) against the same sentence negated or with another number.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.side import Side
from sbert.evaluation.changed_texts import change_number, negate, reword
from sbert.evaluation.evaluate import TextVectors
from sbert.evaluation.frozen_sets import frozen_set
from sbert.evaluation.label_metrics import PRIMARY_METRICS, cosines, measure_one
from sbert.evaluation.metric import Metric, difference_interval
from sbert.evaluation.robustness_sets import robustness_sets
from sbert.evaluation.robustness_settings import RobustnessSettings
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.retrain.label_rows import load_measured
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import ContinualSettings, TrainingFields
from sbert.training.train import train_encoder

EVALUATION = EvaluationSettings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=1_500, help="train rows")
    parser.add_argument("--epochs", type=float, help="of each training; default: those of the recipe")
    parser.add_argument("--texts", type=int, default=200, help="texts of each robustness set")
    parser.add_argument("--made", type=int, default=200, help="texts of train that made rows come from, each kind")
    parser.add_argument("--score", type=float, default=0.4, help="score of a changed text (0 to 1)")
    parser.add_argument("--cases", nargs="+", help="only these cases, by name")
    parser.add_argument("--rehearsal", type=float, nargs="+", default=[0, 1], help="weights of rehearsal")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    for case, recipe, train, test, contrasts in cases(asked):
        if asked.cases and case not in asked.cases:
            continue
        labels = label_set(LabelKind.SCORED_PAIRS if "score" in train.columns else LabelKind.CLASSES, train, test)
        measured = Measured(labels, asked.texts, contrasts)
        measured.say({"case": f"{case}: packaged"}, DEFAULT_MODEL)
        for weight, seed in itertools.product(asked.rehearsal, asked.seeds):
            changes = TrainingFields(
                early_stopping_patience=None,
                seed=seed,
                continual=ContinualSettings.model_validate({"rehearsal_weight": weight}),
                **({"epochs": asked.epochs} if asked.epochs else {}),
            )
            with tempfile.TemporaryDirectory() as folder:
                result = train_encoder(DEFAULT_MODEL, labels, with_changes(RECIPES[recipe], changes), folder)
                record = {"case": case, "rehearsal": weight, "seed": seed, "seconds": round(result.seconds, 1)}
                measured.say(record, result.folder)


def cases(
    asked: argparse.Namespace,
) -> Iterator[tuple[str, str, pl.DataFrame, pl.DataFrame, list[tuple[str, str, str]]]]:
    """Yield name, recipe, train rows, test rows, and real contrasts."""
    names = ["sentence1", "sentence2", "score"]
    train, test = (
        pl.read_csv(asked.data / f"stsb/stsb-en-{part}.csv", has_header=False, new_columns=names).with_columns(
            pl.col("score").cast(pl.Float64) / 5
        )
        for part in ("train", "test")
    )
    train = train.sample(asked.rows, seed=0)
    real = [
        (left, right, changed)
        for left, right, score in test.iter_rows()
        if score >= 0.8
        for changed in (negate(right, seed=0), change_number(right, seed=0))
        if changed
    ]
    yield "stsb", "scored_pairs", train, test, real
    yield "stsb and made rows", "scored_pairs", pl.concat([train, made_rows(train, asked)]), test, real
    train, test = (
        pl.read_csv(asked.data / f"banking77/{part}.csv").rename({"category": "label"}).select("text", "label")
        for part in ("train", "test")
    )
    train = train.sample(fraction=1, shuffle=True, seed=0)
    yield "banking77 classes", "classes", train.head(asked.rows), test, []
    yield (
        "banking77 few_per_class",
        "few_per_class",
        train.group_by("label", maintain_order=True).head(10).select("text", "label"),
        test,
        [],
    )


def made_rows(train: pl.DataFrame, asked: argparse.Namespace) -> pl.DataFrame:
    texts = sorted({*train["sentence1"], *train["sentence2"]}, key=hash_of)
    rows: list[tuple[str, str, float]] = []
    for change in (negate, change_number):
        pairs = [(text, changed) for text in texts if (changed := change(text, seed=1))][: asked.made]
        rows += [(text, changed, asked.score) for text, changed in pairs]
        rows += [(text, reword(text, seed=1), 1.0) for text, _ in pairs]
    return pl.DataFrame(rows, schema=train.schema, orient="row")


def hash_of(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def label_set(kind: LabelKind, train: pl.DataFrame, test: pl.DataFrame) -> LabelSet:
    rows = pl.concat([train.with_columns(split=pl.lit("train")), test.with_columns(split=pl.lit("test"))])
    settings = LabelSettings(
        dev_share=0, near_duplicate_similarity=1.0, max_leakage=1.0, max_contradictions=1.0, split_column="split"
    )
    return make_label_set(rows, kind, settings)


class Measured:
    """Measures of encoders on one test set and the robustness sets that are made of it."""

    def __init__(self, labels: LabelSet, num_texts: int, contrasts: list[tuple[str, str, str]]) -> None:
        """Make the sets."""
        self.deciding = frozen_set(labels, EVALUATION)
        self.made = robustness_sets(self.deciding.texts(), RobustnessSettings(num_texts=num_texts), seed=0)
        self.contrasts = contrasts
        self.first: dict[str, Metric] = {}

    def say(self, record: dict[str, Any], model: str) -> None:
        """Print the measures of a model, with the intervals of the gate against the first model."""
        encode = TextVectors(load_measured(model))
        name = PRIMARY_METRICS[self.deciding.kind]
        metrics = {name: measure_one(self.deciding, encode, EVALUATION, name)}
        metrics |= {each.name: measure_one(each, encode, EVALUATION, str(each.made_for)) for each in self.made}
        record |= {key: round(metric.value, 4) for key, metric in metrics.items()}
        for key, metric in metrics.items() if self.first else ():
            confidence = 0.95 if key == name else 1 - 0.05 / len(self.made)
            gain = difference_interval(metric, self.first[key], num_resamples=2_000, confidence=confidence, seed=0)
            record[f"{key} gain"] = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        self.first = self.first or metrics
        if self.contrasts:
            # The changed text is made from the paraphrase, so that both are equally far from the left text but for the change.
            left, right, changed = (encode(list(texts), Side.DOCUMENT) for texts in zip(*self.contrasts, strict=True))
            nearer = cosines(left, right) > cosines(left, changed)
            record[f"paraphrase nearer than changed ({len(self.contrasts)})"] = round(float(nearer.mean()), 4)
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
