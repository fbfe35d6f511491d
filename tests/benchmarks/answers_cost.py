"""The cost of a night of answers: a case of `tests.benchmarks.answers`. Vectors alone are compared."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

import tests.benchmarks.sync as made
from sbert.apply.answers.answer_pool import TableSplits
from sbert.apply.answers.job import AnswersJob
from sbert.apply.answers.run import prepare_job
from sbert.apply.answers.settings import AnswerSettings
from sbert.derived.run import derive
from sbert.index.top_k import TopK
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import print_table
from tests.benchmarks.sync import KEPT, ROWS_PER_OBJECT, make_table, write_object

__all__ = ["cost"]


def cost(arguments: argparse.Namespace) -> None:
    """Compare a full run with exact batch search, and a night with a full run; vectors alone."""
    num_questions, num_answers = arguments.questions // ROWS_PER_OBJECT, arguments.answers // ROWS_PER_OBJECT
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        questions, answers, out = (str(Path(name) / part) for part in ("questions", "answers", "out"))
        make_table(questions, num_questions)
        make_table(answers, num_answers)
        settings = AnswerSettings()
        models: dict[str, str] = {}

        def run(folder: str) -> Seconds:
            job = prepare_job(questions, answers, folder, settings)
            # no words: the model of the first run stays, though its settings named them
            plain = {
                "question_column": None,
                "answer_columns": (),
                "model_uri": models.setdefault(folder, job.model_uri),
            }
            job = AnswersJob.model_validate(job.model_dump() | plain)
            began = Seconds.now()
            derive(job, questions, folder)
            return Seconds.now() - began

        def search() -> Seconds:
            ours, theirs = (
                np.concatenate([np.array(rows["embedding"].to_list(), np.float32) for rows in _rows(table)])
                for table in (questions, answers)
            )
            began = Seconds.now()
            best = TopK(unit_rows(ours), settings.k)
            best.add(unit_rows(theirs), np.arange(len(theirs)))
            return Seconds.now() - began

        timings: dict[str, list[Seconds]] = {name: [] for name in ("search", "full", "questions", "answers")}
        for number in range(arguments.rounds):
            timings["search"].append(search())
            timings["full"].append(run(out := str(Path(name) / f"out {number}")))
            _grow(questions, arguments.questions // 100, 1_000 + number)
            timings["questions"].append(run(out))
            _grow(answers, arguments.answers // 100, 2_000 + number)
            timings["answers"].append(run(out))
        rows = [
            ("exact batch search in memory", "search", "search"),
            ("full run", "full", "search"),
            ("1 % new questions", "questions", "full"),
            ("1 % new answers", "answers", "full"),
        ]
        print_table(
            f"{arguments.questions:,} questions, {arguments.answers:,} answers, medians of {arguments.rounds} rounds",
            ["run", "seconds", "share", "seconds of CPU", "share"],
            [[label, *_shares(timings[own], timings[of])] for label, own, of in rows],
        )


class Seconds(NamedTuple):
    """Time that passed, and time that this process computed: other load of the machine is in the first."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        """Return both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


def _shares(own: list[Seconds], of: list[Seconds]) -> list[str]:
    """Return the median of each clock, and the median over the rounds of its share of another run."""
    cells = []
    for clock in range(2):
        share = statistics.median(mine[clock] / other[clock] for mine, other in zip(own, of, strict=True))
        cells += [f"{statistics.median(each[clock] for each in own):.2f}", f"{share:.1%}"]
    return cells


def _rows(table: str) -> list[pl.DataFrame]:
    splits = TableSplits(Table.open(table))
    return [pl.DataFrame(rows) for rows in splits.rows(splits.num_rows, ["embedding"])]


def _grow(folder: str, num_rows: int, number: int) -> None:
    """Commit a version with one object more, of some rows."""
    table, usual = Table.open(folder), made.ROWS_PER_OBJECT
    made.ROWS_PER_OBJECT = num_rows
    try:
        new = write_object(folder, number, number)
    finally:
        made.ROWS_PER_OBJECT = usual
    commit(folder, table, add=[new], drop=[], encoder=table.encoder, kept_schema=KEPT, metadata={})
