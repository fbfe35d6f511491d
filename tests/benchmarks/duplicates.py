"""Measure `sbert duplicates`: the rule on labelled pairs, pairs that differ by one word, and the cost of a night.

    python -m tests.benchmarks.duplicates pairs DATA/msrp           # F1 on test, threshold from train; made pairs
    python -m tests.benchmarks.duplicates scale --rows 200000       # full run, 1 % new, deletions; memory

`pairs` reads the Microsoft paraphrase corpus. `scale` makes a table without an encoder: vectors whose principal components
fall off as those of texts do, in objects of 2,000 rows; a fifth of the rows nearly repeats another row.
"""

import argparse
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sbert.apply.duplicates.fit import FitSettings, fit_rule
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule
from sbert.apply.duplicates.run import labelled_pairs
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.labels.label_kinds import LabelKind
from sbert.rows.text_differences import text_facts
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import print_table

DIM = 384
KEPT: dict[str, pl.DataType] = {"text": pl.String()}
ROWS_PER_OBJECT = 2_000
OBJECTS_OF_FAMILY = 64
"""Near repeats are drawn from rows of the same family of objects, so that an object is made without the others."""
NUM_MADE = 200


def read_msrp(folder: Path, part: str) -> pl.DataFrame:
    """Return sentence1, sentence2 and score of a part of the corpus."""
    lines = (folder / f"msr_paraphrase_{part}.txt").read_text("utf-8-sig").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return pl.DataFrame(
        {
            "sentence1": [row[3] for row in rows],
            "sentence2": [row[4] for row in rows],
            "score": [float(row[0]) for row in rows],
        }
    )


def f1(truth: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> float:
    """Return F1 of the pairs called the same."""
    return float(2 * (truth & called).sum() / (truth.sum() + called.sum()))


def called_same(
    rule: PairRule, left: Sequence[str], right: Sequence[str], cosines: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return for each pair whether the rule calls it the same."""
    return np.array(
        [
            rule.is_same(float(cosine), text_facts(one), text_facts(other))
            for one, other, cosine in zip(left, right, cosines, strict=True)
        ]
    )


def made_pairs(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Return pairs that differ by one number, or by one negation, half of each."""
    source = random.Random(seed)
    shuffled = source.sample(list(texts), len(texts))
    left: list[str] = []
    right: list[str] = []
    for kind in ("number", "negation"):
        wanted = len(left) + NUM_MADE // 2
        for text in shuffled:
            changed = other_number(text, source) if kind == "number" else negated(text)
            if changed is not None and len(left) < wanted:
                left.append(text)
                right.append(changed)
    return left, right


def other_number(text: str, source: random.Random) -> str | None:
    """Return the text with another value for one of its numbers."""
    numbers = list(re.finditer(r"(?<![\w.,])\d+(?![\w.,]*\d)", text))
    if not numbers:
        return None
    match = source.choice(numbers)
    other = str(int(match.group()) + source.randint(1, 9))
    return text[: match.start()] + other + text[match.end() :]


def negated(text: str) -> str | None:
    """Return the text with its first auxiliary verb negated."""
    match = re.search(
        r"\b(is|are|was|were|will|would|can|could|has|have|had|should|may|might|must)\b(?! not|n't)", text
    )
    return None if match is None else f"{text[: match.end()]} not{text[match.end() :]}"


def measure_pairs(folder: Path) -> None:
    """Print F1 on the test pairs and the share of made pairs that are kept apart."""
    encoder = SentenceEncoder.from_pretrained(DEFAULT_MODEL)
    encode = partial(encoder.encode, side=Side.DOCUMENT)
    train = labelled_pairs(read_msrp(folder, "train"), LabelKind.SCORED_PAIRS, encode, 0.5)
    test = labelled_pairs(read_msrp(folder, "test"), LabelKind.SCORED_PAIRS, encode, 0.5)
    order = np.argsort(-train.cosines)
    num_same = np.cumsum(train.is_same[order])
    best = int((2 * num_same / (np.arange(1, len(order) + 1) + train.is_same.sum())).argmax())
    rows = [("cosine alone", f"{f1(test.is_same, test.cosines >= train.cosines[order[best]]):.3f}", "", "")]
    made = []
    for seed in range(3):
        left, right = made_pairs(test.left, seed)
        vectors = [encoder.encode(texts) for texts in (left, right)]
        made.append((left, right, np.einsum("nd,nd->n", *vectors, dtype=np.float64)))
    for name, rule in (
        ("fitted, without the check", fit_rule(train, conflict_check=False)),
        ("fitted", fit_rule(train)),
        ("fitted, promised precision 0.8", fit_rule(train, FitSettings(precision=0.8))),
        ("0.9, not fitted", PairRule()),
    ):
        called = called_same(rule, test.left, test.right, test.cosines)
        apart = [float(1 - called_same(rule, *pairs).mean()) for pairs in made]
        precision = float(test.is_same[called].mean())
        rows.append((name, f"{f1(test.is_same, called):.3f}", f"{precision:.3f}", f"{np.median(apart):.3f}"))
        if rule.model is not None:
            print(name, rule.conflict_overlap, rule.model)
    print_table(
        f"{len(test.is_same):,} test pairs; {NUM_MADE} made pairs of test texts, median of 3 seeds",
        ("rule", "F1", "precision", "made pairs kept apart"),
        rows,
    )


def write_object(folder: str, number: int, seed: int, *, alike: bool) -> ShardRecord:
    """Write one object's shard; with `alike` all rows are nearly one text."""
    source = np.random.default_rng(seed)
    family = np.random.default_rng(1_000_003 + seed // OBJECTS_OF_FAMILY)
    scale = (np.arange(DIM) + 4.0) ** -0.5
    shared = family.standard_normal((ROWS_PER_OBJECT, DIM)) * scale
    own = source.standard_normal((ROWS_PER_OBJECT, DIM)) * scale
    is_repeat = source.random(ROWS_PER_OBJECT) < (1.0 if alike else 0.2)
    near = np.zeros(ROWS_PER_OBJECT, np.int64) if alike else source.integers(0, ROWS_PER_OBJECT, ROWS_PER_OBJECT)
    if alike:
        shared = np.random.default_rng(0).standard_normal((1, DIM)) * scale
    vectors = np.where(is_repeat[:, None], shared[near] + 0.25 * own, own).astype(np.float32)
    vectors = unit_rows(vectors)
    texts = [
        f"text {'same' if repeats else ''} of about sixty characters as people write it"
        for repeats in is_repeat.tolist()
    ]
    schema = table_schema(KEPT)
    rows = pa.table(
        [
            pa.array([f"row-{number}-{row}" for row in range(ROWS_PER_OBJECT)]),
            pa.array([f"s3://bucket/raw/part-{number:05d}.jsonl"] * ROWS_PER_OBJECT),
            pa.array([source.bytes(16) for _ in range(ROWS_PER_OBJECT)]),
            embedding_column(vectors),
            pa.array(np.full(ROWS_PER_OBJECT, 14, np.int32)),
            pa.array(np.zeros(ROWS_PER_OBJECT, np.bool_)),
            pa.array(texts),
        ],
        schema=schema,
    )
    with ShardWriter(folder, f"{seed:032x}", schema, ShardSettings()) as writer:
        writer.write(rows)
        return writer.close()[0]


def make_table(folder: str, num_objects: int, *, alike: bool) -> None:
    """Make a table."""
    info = EncoderInfo(
        model="made up", fingerprint="0" * 64, model_fingerprint="0", dim=DIM, pooling="mean", normalized=True,
        max_seq_length=256,
    )  # fmt: skip
    records = [write_object(folder, number, number, alike=alike) for number in range(num_objects)]
    commit(folder, None, add=records, drop=[], encoder=info, kept_schema=KEPT, metadata={})


def change(folder: str, num_new: int, num_gone: int, first: int, *, alike: bool) -> None:
    """Commit a version with new objects, and without the first ones."""
    table = Table.open(folder)
    new = [write_object(folder, first + number, first + number, alike=alike) for number in range(num_new)]
    commit(folder, table, add=new, drop=table.shards()[:num_gone], encoder=table.encoder, kept_schema=KEPT, metadata={})


def run_apart(folder: str, out: str) -> tuple[float, float, float, int]:
    """Run the job in a process of its own; return its seconds, processor seconds, peak memory in MiB, and groups."""
    command = [sys.executable, "-m", "tests.benchmarks.duplicates", "once", folder, out]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, processor, peak = map(float, answer.split())
    groups = (
        DerivedTable.open(out).scan().filter(pl.col("num_in_group") > 1).select(pl.col("group").n_unique()).collect()
    )
    return seconds, processor, peak, int(groups.item())


def run_once(folder: str, out: str) -> None:
    """Run the job, and print its seconds, processor seconds and peak memory in MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    derive(DuplicatesJob(), folder, out)
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    processor = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    print(seconds, processor, usage.ru_maxrss / 1024)


def measure_scale(num_rows: int, *, alike: bool) -> None:
    """Print the cost of full runs and nights."""
    num_objects = max(1, num_rows // ROWS_PER_OBJECT)
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder, out, fresh = (str(Path(name) / part) for part in ("table", "out", "fresh"))
        make_table(folder, num_objects, alike=alike)
        rows = []
        full = 0.0
        one = max(1, num_objects // 100)
        for run, (num_new, num_deleted) in {"full": (0, 0), "1 % new": (one, 0), "1 % deleted": (0, one)}.items():
            if num_new or num_deleted:
                change(folder, num_new, num_deleted, num_objects, alike=alike)
            seconds, processor, peak, groups = run_apart(folder, out)
            full = full or processor
            rows.append(
                (run, f"{seconds:.1f}", f"{processor:.1f}", f"{processor / full:.2%}", f"{peak:.0f}", f"{groups:,}")
            )
        seconds, processor, peak, groups = run_apart(folder, fresh)
        same = groups_of(out).equals(groups_of(fresh))
        rows.append(
            ("full, on the last version", f"{seconds:.1f}", f"{processor:.1f}", "", f"{peak:.0f}", f"equal: {same}")
        )
        shutil.rmtree(fresh)
        print_table(
            f"{num_objects * ROWS_PER_OBJECT:,} rows{', all alike' if alike else ''}",
            ("run", "seconds", "processor seconds", "of the full run", "peak MiB", "groups"),
            rows,
        )


def groups_of(out: str) -> pl.DataFrame:
    """Return the groups in the order of the rows' keys."""
    return DerivedTable.open(out).scan().collect().sort("source", "id")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("pairs").add_argument("folder", type=Path, help="folder of the paraphrase corpus")
    scale = parts.add_parser("scale")
    scale.add_argument("--rows", type=int, default=200_000, help="rows of the table")
    scale.add_argument("--alike", action="store_true", help="all rows are nearly one text")
    once = parts.add_parser("once", help="one run, for `scale`")
    once.add_argument("table")
    once.add_argument("out")
    arguments = parser.parse_args()
    if arguments.part == "pairs":
        measure_pairs(arguments.folder)
    elif arguments.part == "once":
        run_once(arguments.table, arguments.out)
    else:
        measure_scale(arguments.rows, alike=arguments.alike)


if __name__ == "__main__":
    main()
