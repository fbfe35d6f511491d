"""Robustness sets: what a recipe does to them, and what training on made negatives gains.

python -m tests.benchmarks.robustness DATA [--rows 1500] [--epochs 1] [--seeds 0 1]

DATA holds ``stsb/`` (STS Benchmark) and ``banking77/``. Each case trains the packaged encoder on the first rows of train:
by the recipe of the labels alone, and for STS also on made rows (a text and itself in other words: score 1; a text and its
negation, or with another number: score ``--score``). Robustness sets are made from test texts, as in a retraining. The made
rows and these sets share their openings, so a second contrast has none of them: real paraphrases of STS test (score 4 or
more) against the same sentence negated or with another number.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.side import Side
from sbert.evaluation.changed_texts import change_number, negate, reword
from sbert.evaluation.evaluate import TextVectors
from sbert.evaluation.frozen_sets import EvaluationSet, frozen_set
from sbert.evaluation.label_metrics import PRIMARY_METRICS, cosines, measure_one
from sbert.evaluation.robustness_sets import robustness_sets
from sbert.evaluation.robustness_settings import RobustnessSettings
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.retrain.label_rows import load_measured
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.settings import TrainingFields
from sbert.training.train import train_encoder

EVALUATION = EvaluationSettings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=1_500, help="train rows")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--texts", type=int, default=200, help="texts of each robustness set")
    parser.add_argument("--made", type=int, default=200, help="texts of train that made rows come from, each kind")
    parser.add_argument("--score", type=float, default=0.4, help="score of a changed text (0 to 1)")
    parser.add_argument("--cases", nargs="+", help="only these cases, by name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    changes = TrainingFields(epochs=asked.epochs, early_stopping_patience=None)
    for case, kind, train, test, contrasts in cases(asked):
        if asked.cases and case not in asked.cases:
            continue
        labels = label_set(kind, train, test)
        deciding = frozen_set(labels, EVALUATION)
        made = robustness_sets(deciding.texts(), RobustnessSettings(num_texts=asked.texts), seed=0)
        if case.endswith("packaged"):
            say(case, None, DEFAULT_MODEL, deciding, made, contrasts)
            continue
        for seed in asked.seeds:
            settings = with_changes(RECIPES[kind.value], changes.model_copy(update={"seed": seed}))
            with tempfile.TemporaryDirectory() as folder:
                result = train_encoder(DEFAULT_MODEL, labels, settings, folder)
                say(case, seed, result.folder, deciding, made, contrasts)


def cases(
    asked: argparse.Namespace,
) -> Iterator[tuple[str, LabelKind, pl.DataFrame, pl.DataFrame, list[tuple[str, str, str]]]]:
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
    yield "stsb packaged", LabelKind.SCORED_PAIRS, train, test, real
    yield "stsb recipe", LabelKind.SCORED_PAIRS, train, test, real
    yield "stsb recipe and made rows", LabelKind.SCORED_PAIRS, pl.concat([train, made_rows(train, asked)]), test, real
    train, test = (
        pl.read_csv(asked.data / f"banking77/{part}.csv").rename({"category": "label"}).select("text", "label")
        for part in ("train", "test")
    )
    train = train.sample(asked.rows, seed=0)
    yield "banking77 packaged", LabelKind.CLASSES, train, test, []
    yield "banking77 recipe", LabelKind.CLASSES, train, test, []


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


def say(
    case: str,
    seed: int | None,
    model: str,
    deciding: EvaluationSet,
    made: list[EvaluationSet],
    contrasts: list[tuple[str, str, str]],
) -> None:
    encode = TextVectors(load_measured(model))
    name = PRIMARY_METRICS[deciding.kind]
    values = {name: measure_one(deciding, encode, EVALUATION, name).value}
    values |= {each.name: measure_one(each, encode, EVALUATION, str(each.made_for)).value for each in made}
    if contrasts:
        left, right, changed = (encode(list(texts), Side.DOCUMENT) for texts in zip(*contrasts, strict=True))
        # The changed text is made from the paraphrase, so that both are equally far from the left text but for the change.
        values[f"paraphrase nearer than changed ({len(contrasts)})"] = float(
            (cosines(left, right) > cosines(left, changed)).mean()
        )
    print(
        json.dumps({"case": case, "seed": seed, **{key: round(value, 4) for key, value in values.items()}}), flush=True
    )


if __name__ == "__main__":
    main()
