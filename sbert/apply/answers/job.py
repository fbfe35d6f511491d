"""`AnswersJob`: the best answers of each question, kept up to date at a cost that follows the changes.

The list of the night before is true but for answers that left, and only answers that joined can enter it, as in
`sbert.apply.neighbours.job`. So an old question is compared with the new answers, and a new question with all. The job names
the versions of the answers tables that it compares with, and hashes their splits into its fingerprint.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from sbert.apply.answers.answer_pool import AnswerPool, AnswerTables, TableSplits
from sbert.apply.answers.best_answers import Answer, Questions, best_answers
from sbert.apply.answers.decide import decide
from sbert.apply.answers.earlier_answers import RowsBefore, are_same_rows, last_scores, names_any, with_replaced
from sbert.apply.answers.model import load_model
from sbert.apply.answers.questions import QuestionReader
from sbert.apply.answers.settings import AnswerSettings
from sbert.apply.nearest_rows import Key, updated_list
from sbert.apply.row_texts import RowTexts
from sbert.apply.text_vectors import table_texts
from sbert.derived.build import derived_schema
from sbert.derived.derived_table import DerivedTable
from sbert.derived.earlier_output import output_before, rows_before
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.errors import NotATableError, StorageError, TableError
from sbert.explanation.reason_column import EXPLANATION, REASONS, ReasonColumn, RowPair, SplitReasons
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table

__all__ = ["ANSWER", "AnswersJob"]

log = logging.getLogger(__name__)

ANSWER = pa.struct(
    [
        ("rank", pa.int32()),
        ("source", pa.string()),
        ("id", pa.string()),
        ("text_hash", pa.binary()),
        ("score", pa.float64()),
        ("cosine", pa.float64()),
        ("answer_cosine", pa.float64()),
        ("words", pa.float64()),
    ]
)
VERSIONS = ("answers_version", "second_version")
"""Fields that may differ between the output before and this run."""
Explain = Callable[[pa.Table, list[list[Answer]]], pa.ListArray]
"""Makes the column of reasons for a block of questions and their answers."""


class AnswersJob(DerivedJob):
    """The best answers of each question, with a probability and a decision; `sbert.apply.answers.run` makes it."""

    name: ClassVar[str] = "answers"

    settings: AnswerSettings = Field(default_factory=AnswerSettings, description="What is compared and decided.")
    answers_uri: str = Field(description="Embeddings table of the answers.")
    answers_id: str = Field(description="The id in its Delta log.")
    answers_version: int = Field(description="Its version that is compared with.")
    second_uri: str | None = Field(default=None, description="Embeddings table of the same rows by another text.")
    second_id: str | None = Field(default=None, description="The id in its Delta log.")
    second_version: int | None = Field(default=None, description="Its version that is compared with.")
    question_column: str | None = Field(default=None, description="Kept column of the questions' texts.")
    answer_columns: tuple[str, ...] = Field(default=(), description="Kept columns of the answers' texts.")
    model_uri: str = Field(description="Fitted model; its name is the hash of its content.")
    explain: bool = Field(
        default=False,
        exclude_if=lambda value: not value,  # outputs of earlier releases stay as they are
        description="Say why each question and its first answer are near.",
    )

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the answers, the probability that the first is right, the decision, its reason, perhaps an explanation."""
        return pa.schema(
            [
                pa.field("answers", pa.list_(ANSWER)),
                pa.field("probability", pa.float64()),
                pa.field("decision", pa.string()),
                pa.field("reason", pa.string()),
                *([pa.field(EXPLANATION, REASONS)] if self.explain else []),
            ]
        )

    def fingerprint(self, table: Table) -> str:
        """Hash every split of the answers tables in place of their versions: compaction changes no answer."""
        tables = self.tables()
        splits = [sorted(each.num_rows.items()) for each in (tables.first, tables.second) if each is not None]
        own = self.model_dump_json(exclude=set(VERSIONS))
        parts = [self.name, own, str(self.code_version), table.encoder.fingerprint, str(splits)]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Load the model, and find the answers that joined and left since the last output."""
        return _Answers(self, table, out_uri).derive

    def tables(self) -> AnswerTables:
        """Open the versions of the answers tables."""
        second = None if self.second_uri is None else TableSplits(Table.open(self.second_uri, self.second_version))
        first = TableSplits(Table.open(self.answers_uri, self.answers_version))
        return AnswerTables(first, second, self.answer_columns)


class _Answers:
    """Answers the questions of one version; threads may share it."""

    def __init__(self, job: AnswersJob, table: Table, out_uri: str) -> None:
        self._job = job
        self._table = table
        self._model = load_model(job.model_uri)
        self._weights = self._model.record.weights
        self._tables = job.tables()
        self._before = output_before(job, table, out_uri, may_differ=VERSIONS)
        self._reasons = _Reasons(job, table, self._tables.first.table, out_uri) if job.explain else None
        self._left: set[Key] = set()
        self._joined = None if self._before is None else self._find_changes(self._before)
        self._schema = derived_schema(job, table)
        self._whole: AnswerPool | None = None
        self._lock = threading.Lock()

    def derive(self, split: SplitInput) -> Iterator[pa.Table]:
        """Return the answers of a split's questions."""
        job = self._job
        reader = QuestionReader(self._table, job.settings, job.question_column, self._model.record, self._model.counts)
        explain = None if self._reasons is None else self._reasons.of_split(split)
        columns = list(dict.fromkeys([*KEY_COLUMNS, *reader.columns]))
        with closing(self._batches_before(split)) as batches:
            before = RowsBefore(batches, self._schema)
            for rows in split.rows(columns):
                questions, is_unknown = reader.read(rows, with_words=bool(job.answer_columns))
                old = before.take(len(rows))
                if self._joined is not None and are_same_rows(old, rows):
                    yield self._updated(rows, questions, is_unknown, old, self._joined, explain)
                else:
                    lists = best_answers(questions, self._every_answer(), self._weights, job.settings.k)
                    yield self._output(rows, lists, is_unknown, explain)

    def _updated(
        self,
        rows: pa.Table,
        questions: Questions,
        is_unknown: Sequence[bool],
        old: pa.Table,
        joined: AnswerPool,
        explain: Explain | None,
    ) -> pa.Table:
        """Return the output before, with the rows answered again whose list an answer joins or left."""
        k = self._job.settings.k
        # what is below the last of a full list cannot enter it
        entering = best_answers(questions, joined, self._weights, k, last_scores(old["answers"], k))
        loses = names_any(old["answers"], self._left)
        places = [place for place, new in enumerate(entering) if new or loses[place]]
        if not places:
            return old
        lists: list[list[Answer] | None] = [
            updated_list([_answer(item) for item in items], entering[place], self._left, k)
            for place, items in zip(places, old["answers"].take(pa.array(places)).to_pylist(), strict=True)
        ]
        unknown = [number for number, answers in enumerate(lists) if answers is None]
        if unknown:
            asked = questions.take([places[number] for number in unknown])
            best = best_answers(asked, self._every_answer(), self._weights, k)
            for number, answers in zip(unknown, best, strict=True):
                lists[number] = answers
        changed = self._output(
            rows.take(pa.array(places)),
            [answers or [] for answers in lists],
            [is_unknown[place] for place in places],
            explain,
        )
        return with_replaced(old, places, changed)

    def _output(
        self, rows: pa.Table, lists: list[list[Answer]], is_unknown: Sequence[bool], explain: Explain | None
    ) -> pa.Table:
        decided = decide(lists, is_unknown, self._model.record)
        columns: list[Any] = [rows[name] for name in KEY_COLUMNS]
        columns += [
            pa.array([_structs(answers) for answers in lists], pa.list_(ANSWER)),
            pa.array([each.probability for each in decided], pa.float64()),
            pa.array([each.decision.value for each in decided], pa.string()),
            pa.array([each.reason.value for each in decided], pa.string()),
        ]
        if explain is not None:
            columns.append(explain(rows, lists))
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _every_answer(self) -> AnswerPool:
        """Return all answers, which are read when a question first needs them."""
        with self._lock:
            if self._whole is None:
                self._whole = AnswerPool(self._tables, self._weights, self._model.counts)
            return self._whole

    def _find_changes(self, before: DerivedTable) -> AnswerPool | None:
        """Return the answers that joined, and note the keys of those that left; None if the old versions are gone."""
        settings = before.info.settings
        tables = self._tables
        try:
            first = TableSplits(Table.open(tables.first.table.uri, settings["answers_version"]))
            joined = tables.first.changed(first)
            self._left = first.keys(first.changed(tables.first))
            if tables.second is None:
                return AnswerPool(tables, self._weights, self._model.counts, joined)
            second = TableSplits(Table.open(tables.second.table.uri, settings["second_version"]))
            other = second.keys(second.changed(tables.second)) | tables.second.keys(tables.second.changed(second))
            self._left |= other
            only = tables.first.keys(joined) | other
            return AnswerPool(tables, self._weights, self._model.counts, None if only else joined, only or None)
        except (NotATableError, StorageError, TableError) as error:
            log.info("every question is compared with every answer, because an earlier version is gone: %s", error)
            self._before = None
            return None

    def _batches_before(self, split: SplitInput) -> Generator[pa.RecordBatch, None, None]:
        """Read the output before of a split that stayed, in the order of its rows."""
        if self._before is not None:
            yield from rows_before(self._before, split, self._schema.names)


class _Reasons:
    """Says why questions and their first answers are near; threads may share it."""

    def __init__(self, job: AnswersJob, questions: Table, answers: Table, out_uri: str) -> None:
        self._questions = questions
        self._column = words_text_column(questions, job.settings.question_column)
        self._texts = RowTexts(answers, words_text_column(answers))
        self._reasons = SplitReasons(ReasonColumn(questions, answers), job.name, questions, out_uri)

    def of_split(self, split: SplitInput) -> Explain:
        """Return the function that makes the column for the rows of a split and their answers."""
        earlier = cache(lambda: self._reasons.earlier(split))

        def make(rows: pa.Table, lists: list[list[Answer]]) -> pa.ListArray:
            ours = table_texts(self._questions, [text or "" for text in rows[self._column].to_pylist()])
            first = [answers[0].key if answers else None for answers in lists]
            theirs = self._texts.read([key for key in first if key is not None])
            pairs = [
                None if key is None else RowPair(*key, text, theirs[key])
                for text, key in zip(ours.to_list(), first, strict=True)
            ]
            return self._reasons.make(pairs, earlier())

        return make


def _structs(answers: list[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "rank": rank,
            "source": answer.key[0],
            "id": answer.key[1],
            "text_hash": answer.text_hash,
            "score": answer.score,
            "cosine": answer.cosine,
            "answer_cosine": answer.answer_cosine,
            "words": answer.words,
        }
        for rank, answer in enumerate(answers, start=1)
    ]


def _answer(item: dict[str, Any]) -> Answer:
    return Answer(
        (item["source"], item["id"]),
        item["score"],
        item["text_hash"],
        item["cosine"],
        item["answer_cosine"],
        item["words"],
    )
