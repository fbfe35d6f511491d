"""Measure the scores that training reaches and its speed, on public data sets; print one JSON object per figure.

    python -m tests.benchmarks.training stsb DATA/stsb --seeds 0,1,2
    python -m tests.benchmarks.training lora DATA/stsb
    python -m tests.benchmarks.training speed DATA/stsb
    python -m tests.benchmarks.training banking DATA/banking77 --per-class 10 --seeds 0,1,2
    python -m tests.benchmarks.training banking DATA/banking77
    python -m tests.benchmarks.training continual DATA/banking77 --regression-set DATA/stsb --per-class 10
    python -m tests.benchmarks.training domain DATA/covid_faq --recipe texts --seeds 0,1,2
    python -m tests.benchmarks.training domain DATA/cranfield --recipe texts_tsdae

The folder of a data set must contain: stsb: stsb-en-{train,dev,test}.csv without header; banking77: train.csv and test.csv (text,
category); covid_faq: faq_covidbert.csv (question, answer); cranfield: corpus.jsonl, queries.jsonl and qrels.tsv.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsClassifier
from transformers import TrainerCallback

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.evaluation.retrieval import RetrievalTask, pairs_as_retrieval, rank_scores
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels, make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.classifier import SentenceClassifier
from sbert.training.recipes import RECIPES, with_changes
from sbert.training.result import TrainingResult
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from sbert.training.training_data import with_class_names
from sbert.vectors.unit import unit_rows

STS_SETTINGS = LabelSettings(csv_columns=("sentence1", "sentence2", "score"), score_max=5)


def say(**numbers: Any) -> None:
    print(json.dumps(numbers), flush=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    return unit_rows(vectors)


def sts_score(encoder: SentenceEncoder, rows: pl.DataFrame) -> float:
    first, second = (unit(encoder.encode(rows[name], side=Side.DOCUMENT)) for name in ("sentence1", "sentence2"))
    return 100 * float(spearmanr((first * second).sum(1), rows["score"].to_numpy()).statistic)


def train(
    labels: LabelSet, settings: TrainingSettings, checkpoints: str | None = None
) -> tuple[SentenceEncoder, TrainingResult]:
    with tempfile.TemporaryDirectory() as folder:
        result = train_encoder(DEFAULT_MODEL, labels, settings, folder, checkpoints_uri=checkpoints)
        return SentenceEncoder.from_pretrained(result.folder), result


def changed(recipe: str, arguments: argparse.Namespace, seed: int = 0) -> TrainingSettings:
    """Return the recipe with the seed and the changes of --settings."""
    changes = TrainingSettings.model_validate({"seed": seed, **json.loads(arguments.settings)})
    return with_changes(RECIPES[recipe], changes)


def stsb(arguments: argparse.Namespace, recipe: str) -> None:
    labels = load_labels(f"{arguments.data}/stsb-en-*.csv", STS_SETTINGS)
    say(case=recipe, before=round(sts_score(SentenceEncoder.from_pretrained(), labels.test), 2))
    scores = []
    for seed in arguments.seeds:
        settings = changed(recipe, arguments, seed)
        encoder, result = train(labels, settings, arguments.checkpoints)
        scores.append(sts_score(encoder, labels.test))
        say(
            case=recipe,
            seed=seed,
            test=round(scores[-1], 2),
            dev=round(100 * result.dev_best, 2),
            trained_share=round(result.num_trainable / result.num_parameters, 4),
            rows_per_second=round(result.rows_per_second, 1),
        )
    say(case=recipe, median=round(statistics.median(scores), 2))


class Clock(TrainerCallback):
    """Record the wall and processor time of each step, including its batch."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())

    def pairs_per_second(self) -> tuple[float, float]:
        """Return pairs per second by the median step, in wall time and processor time, without the first steps."""
        return tuple(32 / float(np.median(np.diff(times[2:]))) for times in (self.wall, self.processor))  # type: ignore[return-value]


def speed(arguments: argparse.Namespace) -> None:
    """Compare the pairs per second of both trainers on the same batches, in turns, by median steps."""
    from sbert.training.batches import BatchGrouping, BatchPlan
    from sbert.training.trainer import EncoderTrainer

    labels = load_labels(f"{arguments.data}/stsb-en-*.csv", STS_SETTINGS)
    plan = BatchPlan(
        np.zeros((labels.train.height, 2), dtype=np.int64), None, grouping=BatchGrouping.RANDOM, batch_size=32, seed=0
    )
    rows = labels.train[np.concatenate(plan.batches(0))[: arguments.steps * 32]]
    without_dev = LabelSet(**{**vars(labels), "dev": labels.dev.head(0)})
    recipe = RECIPES["scored_pairs"].model_dump()
    variants: dict[str, dict[str, Any]] = {
        "recipe scored_pairs": {},
        "recipe, float32": {"bf16": False},
    }
    original = EncoderTrainer.__init__
    rates: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        clock = Clock()
        _theirs(rows, arguments.steps, clock)
        rates.setdefault("sentence-transformers' trainer, float32", []).append(clock.pairs_per_second())
        for name, changes in variants.items():
            clock = Clock()

            def timed(self: Any, *given: Any, callbacks: list[Any], clock: Clock = clock, **more: Any) -> None:
                original(self, *given, callbacks=[*callbacks, clock], **more)

            EncoderTrainer.__init__ = timed  # type: ignore[method-assign]
            settings = TrainingSettings.model_validate({**recipe, **changes, "max_steps": arguments.steps})
            train(without_dev, settings)
            EncoderTrainer.__init__ = original  # type: ignore[method-assign]
            rates.setdefault(f"ours, {name}", []).append(clock.pairs_per_second())
    reference = [statistics.median(column) for column in zip(*next(iter(rates.values())), strict=True)]
    for name, measurements in rates.items():
        wall, processor = (statistics.median(column) for column in zip(*measurements, strict=True))
        say(
            case=name,
            pairs_per_second=round(wall, 1),
            pairs_per_processor_second=round(processor, 1),
            times_wall=round(wall / reference[0], 2),
            times_processor=round(processor / reference[1], 2),
        )


def _theirs(rows: pl.DataFrame, steps: int, clock: Clock) -> None:
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    from sbert.encoder.model_location import locate_model

    model = SentenceTransformer(str(locate_model(DEFAULT_MODEL)), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder, per_device_train_batch_size=32, max_steps=steps, report_to="none", save_strategy="no",
                use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, logging_strategy="no",
                batch_sampler=lambda dataset, batch_size, **_: torch.utils.data.BatchSampler(
                    torch.utils.data.SequentialSampler(dataset), batch_size, drop_last=True
                ),
            ),
            train_dataset=Dataset.from_dict({name: rows[name].to_list() for name in ("sentence1", "sentence2", "score")}),
            loss=CoSENTLoss(model),
            callbacks=[clock],
        ).train()  # fmt: skip


def few_labels(labels: LabelSet, per_class: int, seed: int) -> LabelSet:
    """Return `per_class` train rows of each class, drawn by seed; all rows when `per_class` is 0."""
    if not per_class:
        return labels
    shuffled = labels.train.sort("row_id").sample(fraction=1.0, shuffle=True, seed=seed)
    few = shuffled.group_by("label", maintain_order=True).head(per_class)
    return LabelSet(**{**vars(labels), "train": few.select(labels.train.columns)})


def banking(arguments: argparse.Namespace) -> None:
    """Measure the test accuracy of a logistic regression on the vectors before and after training.

    All labels are used for training and none for dev, so the last checkpoint is taken. Train rows that are near duplicates of a test
    row are left out; --keep-near-twins keeps them, as published results do. --on-rest scores the rows of the train file that were
    not drawn instead of the test file; settings are chosen there.
    """
    same = 1.0 if arguments.keep_near_twins else LabelSettings().near_duplicate_similarity
    label_settings = LabelSettings(max_leakage=1, dev_share=0.0, near_duplicate_similarity=same)
    labels = load_labels(f"{arguments.data}/*.csv", label_settings)
    recipe = "few_per_class" if arguments.per_class else "classes"
    scores = []
    for seed in arguments.seeds:
        subset = few_labels(labels, arguments.per_class, seed)
        scored = subset.test
        if arguments.on_rest:
            scored = labels.train.join(subset.train, on="row_id", how="anti").sort("row_id").sample(3_000, seed=0)
        settings = changed(recipe, arguments, seed)
        encoder, result = train(subset, settings, arguments.checkpoints)
        train_rows = subset.train.select("text", "label")
        named = with_class_names(train_rows, LabelKind.CLASSES) if settings.class_names else train_rows
        base = SentenceEncoder.from_pretrained()
        before = probe_accuracy(base, train_rows, scored)
        scores.append(probe_accuracy(encoder, named, scored))
        say(
            case=f"banking77, {arguments.per_class or 'all'} a class",
            scored="rest of train" if arguments.on_rest else "test",
            seed=seed,
            rows=subset.train.height,
            before=round(before, 2),
            after=round(scores[-1], 2),
            before_by_neighbors=round(neighbors_accuracy(base, train_rows, scored), 2),
            after_by_neighbors=round(neighbors_accuracy(encoder, named, scored), 2),
            rows_per_second=round(result.rows_per_second, 1),
        )
    say(case="banking77", per_class=arguments.per_class, median=round(statistics.median(scores), 2))


def probe_accuracy(encoder: SentenceEncoder, train_rows: pl.DataFrame, scored: pl.DataFrame) -> float:
    classifier = SentenceClassifier.fit(encoder, train_rows["text"], train_rows["label"].to_list())
    predictions = zip(classifier.predict(scored["text"]), scored["label"], strict=True)
    return 100 * float(np.mean([ours == true for ours, true in predictions]))


def neighbors_accuracy(encoder: SentenceEncoder, train_rows: pl.DataFrame, scored: pl.DataFrame) -> float:
    """Return the accuracy of the majority class of the ten nearest texts."""
    nearest = KNeighborsClassifier(n_neighbors=10, metric="cosine", weights="distance")
    nearest.fit(encoder.encode(train_rows["text"], side=Side.DOCUMENT), train_rows["label"].to_list())
    return 100 * float(nearest.score(encoder.encode(scored["text"], side=Side.DOCUMENT), scored["label"].to_list()))


def continual(arguments: argparse.Namespace) -> None:
    """Train on one domain and score the regression set (STS Benchmark test), with and without continual learning."""
    regression_set = load_labels(f"{arguments.regression_set}/stsb-en-*.csv", STS_SETTINGS).test
    share = 0.0 if arguments.per_class else 0.1
    labels = load_labels(f"{arguments.data}/*.csv", LabelSettings(max_leakage=1, dev_share=share))
    base = SentenceEncoder.from_pretrained()
    before = sts_score(base, regression_set)
    drops: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        subset = few_labels(labels, arguments.per_class, seed)
        say(case="before", seed=seed, regression_set=round(before, 2), domain=round(domain_accuracy(base, subset), 2))
        settings = changed("continual", arguments, seed)
        plain = settings.model_copy(update={"continual": TrainingSettings().continual})
        for name, each in (("continual learning on", settings), ("continual learning off", plain)):
            encoder, _ = train(subset, each, arguments.checkpoints)
            drops.setdefault(name, []).append(before - sts_score(encoder, regression_set))
            say(
                case=name,
                seed=seed,
                regression_set=round(before - drops[name][-1], 2),
                domain=round(domain_accuracy(encoder, subset), 2),
            )
    for name, drops_of_case in drops.items():
        say(case=name, median_drop=round(statistics.median(drops_of_case), 2))


def domain_accuracy(encoder: SentenceEncoder, labels: LabelSet) -> float:
    """Return the accuracy of the nearest train text's class, which measures the vectors alone."""
    train_vectors, test_vectors = (
        unit(encoder.encode(part["text"], side=Side.DOCUMENT)) for part in (labels.train, labels.test)
    )
    nearest = (test_vectors @ train_vectors.T).argmax(axis=1)
    return 100 * float((labels.train["label"].to_numpy()[nearest] == labels.test["label"].to_numpy()).mean())


def cranfield(folder: Path) -> RetrievalTask:
    corpus, queries = (pl.read_ndjson(folder / f"{name}.jsonl") for name in ("corpus", "queries"))
    place = {name: number for number, name in enumerate(corpus["_id"].cast(pl.String))}
    judged = pl.read_csv(folder / "qrels.tsv", separator="\t", schema_overrides=[pl.String, pl.String, pl.Float64])
    judged.columns = ["query", "text", "grade"]
    relevant: dict[str, set[int]] = {}
    for query, text in judged.filter(pl.col("grade") > 0).select("query", "text").iter_rows():
        relevant.setdefault(query, set()).add(place[text])
    asked = queries.filter(pl.col("_id").cast(pl.String).is_in(list(relevant)))
    return RetrievalTask(
        queries=asked["text"].to_list(),
        corpus=corpus["text"].to_list(),
        relevant=[frozenset(relevant[name]) for name in asked["_id"].cast(pl.String)],
    )


def covid_faq(folder: Path) -> RetrievalTask:
    pairs = pl.read_csv(folder / "faq_covidbert.csv").select("question", "answer").drop_nulls()
    return pairs_as_retrieval(pairs["question"].to_list(), pairs["answer"].to_list())


def ndcg_by_query(encoder: SentenceEncoder, task: RetrievalTask) -> np.ndarray:
    return rank_scores(
        task, encoder.encode(task.queries, side=Side.QUERY), encoder.encode(task.corpus, side=Side.DOCUMENT)
    )["ndcg@10"]


def domain(arguments: argparse.Namespace) -> None:
    """Train on the unlabelled texts of a domain; measure nDCG@10 before and after, with a paired bootstrap interval.

    Training sees the corpus, but no query and no judgement.
    """
    folder = Path(arguments.data)
    task = cranfield(folder) if (folder / "qrels.tsv").exists() else covid_faq(folder)
    texts = pl.DataFrame({"text": task.corpus})
    labels = make_label_set(texts, LabelKind.TEXTS, LabelSettings(test_share=0.0, dev_share=0.0))
    before = ndcg_by_query(SentenceEncoder.from_pretrained(), task)
    gains = []
    for seed in arguments.seeds:
        encoder, _ = train(labels, changed(arguments.recipe, arguments, seed), arguments.checkpoints)
        gain = ndcg_by_query(encoder, task) - before
        rng = np.random.default_rng(0)
        means = gain[rng.integers(0, len(gain), (10_000, len(gain)))].mean(axis=1)
        gains.append(100 * float(gain.mean()))
        say(
            case=f"{folder.name}, {arguments.recipe}",
            rows=labels.train.height,
            seed=seed,
            before=round(100 * before.mean(), 2),
            after=round(100 * (before + gain).mean(), 2),
            interval_of_gain=[round(100 * float(each), 2) for each in np.quantile(means, [0.025, 0.975])],
        )
    say(case=f"{folder.name}, {arguments.recipe}", median_gain=round(statistics.median(gains), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["stsb", "lora", "speed", "banking", "continual", "domain"])
    parser.add_argument("data", help="Folder of the data set.")
    parser.add_argument("--regression-set", help="continual: folder of STS Benchmark.")
    parser.add_argument("--per-class", type=int, default=0, help="banking, continual: labels per class; 0 for all.")
    parser.add_argument(
        "--keep-near-twins", action="store_true", help="banking: also train on near duplicates of test rows."
    )
    parser.add_argument("--on-rest", action="store_true", help="banking: score the train rows that were not drawn.")
    parser.add_argument("--recipe", default="texts", help="domain: name of the recipe.")
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(each) for each in text.split(",")],
        default=[0],
        help="Seeds, separated by commas.",
    )
    parser.add_argument("--steps", type=int, default=20, help="speed: steps of each trainer.")
    parser.add_argument("--rounds", type=int, default=3, help="speed: turns of each trainer.")
    parser.add_argument("--checkpoints", help="Folder of checkpoints, to resume after a kill.")
    parser.add_argument("--settings", default="{}", help="Changes of the recipe, as a JSON object.")
    arguments = parser.parse_args()
    if arguments.case in {"stsb", "lora"}:
        stsb(arguments, "scored_pairs" if arguments.case == "stsb" else "scored_pairs_lora")
    else:
        {"speed": speed, "banking": banking, "continual": continual, "domain": domain}[arguments.case](arguments)


if __name__ == "__main__":
    main()
