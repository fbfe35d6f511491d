"""Measure what `sbert classify` costs a large table: everything, nothing changed, 1 % of the rows new.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.classification_night --rows 1000000

The table is made by the library without an encoder, in objects of 10,000 rows: unit vectors of 384 values around a centre of
their class, and kept texts of about nine words, some of which their class uses more often than others. Labels are a file of
10,000 of the texts with ten classes. Every run is the whole job: it reads the labels, fits or finds the head, measures it,
classifies, and writes the report. The head must read words, as heads on real texts do; the benchmark fails if it does not.

Seconds are of the processor. They are compared with those of embedding: a full refresh of 1,000,000 rows of short texts takes
1,911 on machine EPYC (tests/benchmarks/README.md, "Cost of a night"). Fitting is the same work whatever the table's size.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.apply.classification.heads import HeadDecision, choose_heads
from sbert.apply.classification.run import ClassificationReport, classification_job, classify, finish_report
from sbert.apply.classification.settings import ClassificationSettings
from sbert.derived.run import derive
from sbert.rows.cleaning import hash_texts
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import SYLLABLES, print_table
from tests.benchmarks.sync import DIM, KEPT, ROWS_PER_OBJECT

NUM_CLASSES, NUM_LABELS = 10, 10_000
EMBEDDING_SECONDS = 1_911 / 1_000_000
"""Processor seconds of a full refresh for each row."""
NUM_WORDS, WORDS_PER_TEXT, OWN_WORDS = 20_000, 9, 200
"""Words there are; words of a text; words that a class uses more often."""
OWN_SHARE = 0.12
"""Share of the words of a text that are those of its class."""
NOISE = 7.5
"""Length of the noise of a vector; the centre of a class has length 1."""


@dataclass(frozen=True)
class World:
    """Centres of classes and words, the same for all objects."""

    centres_CD: np.ndarray
    words: np.ndarray
    weights: np.ndarray
    """How often each word is used; the n-th as often as 1/n."""

    @classmethod
    def made(cls) -> "World":
        """Return the world of seed 0."""
        random = np.random.default_rng(0)
        centres_CD = unit_rows(random.standard_normal((NUM_CLASSES, DIM)).astype(np.float32))
        parts = random.choice(SYLLABLES, (2 * NUM_WORDS, 4))
        words = np.unique(["".join(part[: 1 + at % 4]) for at, part in enumerate(parts)])
        weights = 1 / np.arange(1, len(words) + 1)
        return cls(centres_CD, random.permutation(words), weights / weights.sum())

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray, pl.Series]:
        """Return classes (N,), vectors (N, DIM) and texts of one object."""
        random = np.random.default_rng([1, seed])
        truth = random.integers(0, NUM_CLASSES, ROWS_PER_OBJECT)
        noise = NOISE / np.sqrt(DIM) * random.standard_normal((ROWS_PER_OBJECT, DIM), np.float32)
        vectors = unit_rows(self.centres_CD[truth] + noise)
        shape = (ROWS_PER_OBJECT, WORDS_PER_TEXT)
        used = random.choice(len(self.words), shape, p=self.weights)
        own = 100 + OWN_WORDS * truth[:, None] + random.integers(0, OWN_WORDS, shape)
        used = np.where(random.random(shape) < OWN_SHARE, own, used)
        texts = pl.Series("text", self.words[used], dtype=pl.Array(pl.String, WORDS_PER_TEXT)).arr.join(" ")
        return truth, vectors, texts


def write_object(world: World, folder: str, number: int) -> object:
    """Write one object's shard."""
    _, vectors, texts = world.rows(number)
    columns = [
        pa.array([f"row-{number}-{row}" for row in range(ROWS_PER_OBJECT)]),
        pa.array([f"s3://bucket/raw/part-{number:05d}.jsonl"] * ROWS_PER_OBJECT),
        hash_texts(texts).to_arrow().cast(pa.binary()),
        embedding_column(vectors),
        pa.array(np.full(ROWS_PER_OBJECT, WORDS_PER_TEXT + 2, np.int32)),
        pa.array(np.zeros(ROWS_PER_OBJECT, np.bool_)),
        texts.to_arrow().cast(pa.string()),
    ]
    schema = table_schema(KEPT)
    rows = pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
    with ShardWriter(folder, f"{number:032x}", schema, ShardSettings()) as writer:
        writer.write(rows)
        return writer.close()[0]


def add_objects(world: World, folder: str, numbers: range) -> None:
    """Commit a version with more objects."""
    info = EncoderInfo(
        model="made up", fingerprint="0" * 64, model_fingerprint="0", dim=DIM, pooling="mean", normalized=True,
        max_seq_length=256,
    )  # fmt: skip
    records = [write_object(world, folder, number) for number in numbers]
    before = Table.open(folder) if numbers.start else None
    commit(folder, before, add=records, drop=[], encoder=info, kept_schema=KEPT, metadata={})


def write_labels(world: World, file: Path, num_objects: int) -> None:
    """Label some texts of each object, 10,000 in all."""
    file.parent.mkdir()
    each = -(-NUM_LABELS // num_objects)
    with file.open("w", encoding="utf-8") as out:
        for number in range(num_objects):
            truth, _, texts = world.rows(number)
            for label, text in zip(truth[:each].tolist(), texts[:each].to_list(), strict=True):
                out.write(json.dumps({"text": text, "label": f"class {label}"}) + "\n")


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Return the processor seconds and the seconds of a step."""
    processor, began = time.process_time(), time.perf_counter()
    step()
    return time.process_time() - processor, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table, in objects of 10,000")
    parser.add_argument(
        "--folder", type=Path, help="folder for the table (2 GB for 1,000,000 rows); by default a temporary one"
    )
    given = parser.parse_args()
    num_objects = max(1, given.rows // ROWS_PER_OBJECT)
    num_new = max(1, num_objects // 100)
    num_rows = num_objects * ROWS_PER_OBJECT
    world, settings = World.made(), ClassificationSettings()
    reports: list[ClassificationReport] = []
    with tempfile.TemporaryDirectory(prefix="sbert-bench-", dir=given.folder) as name:
        table, labels, out = (str(Path(name) / part) for part in ("table", "labels", "out"))
        add_objects(world, table, range(num_objects))
        write_labels(world, Path(labels, "a.jsonl"), num_objects)

        def night() -> None:
            reports.append(classify(table, labels, out, settings))

        heads: list[HeadDecision] = []
        fit = timed(lambda: heads.extend(choose_heads(Table.open(table), labels, out, settings)))

        def rest_of_first_night() -> None:  # the steps of `classify` after its heads are chosen
            output = derive(classification_job(tuple(heads), out), table, out)
            reports.append(finish_report(output, tuple(heads), {}, settings))

        rest = timed(rest_of_first_night)
        unchanged = timed(night)
        add_objects(world, table, range(num_objects, num_objects + num_new))
        new = timed(night)
    head = reports[0].tasks[0].head
    assert head.words_column, "the head reads no words"
    assert [report.output.num_rows_built for report in reports] == [num_rows, 0, num_new * ROWS_PER_OBJECT]
    full = (fit[0] + rest[0], fit[1] + rest[1])
    embedding = EMBEDDING_SECONDS * num_rows
    quality = head.quality
    assert quality is not None
    print(
        f"head: {head.kind} {head.strength:g}, {head.told_words()} Held-out macro-F1 {quality.macro_f1.value:.3f}; "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"
    )
    steps = [
        ("full classification", full),
        ("… of it reading labels, fitting and measuring the head", fit),
        ("… of it classifying and reporting", rest),
        ("nothing changed", unchanged),
        (f"{num_new * ROWS_PER_OBJECT:,} rows in {num_new} new objects", new),
    ]
    print_table(
        f"{num_rows:,} rows, {NUM_LABELS:,} labels of {NUM_CLASSES} classes; embedding {embedding:,.0f} processor seconds",
        ("run", "processor seconds", "of embedding", "of the full classification", "seconds"),
        [
            (name, f"{cost[0]:.2f}", f"{cost[0] / embedding:.2%}", f"{cost[0] / full[0]:.2%}", f"{cost[1]:.2f}")
            for name, cost in steps
        ],
    )


if __name__ == "__main__":
    main()
