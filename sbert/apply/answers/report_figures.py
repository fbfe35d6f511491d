"""Make the report of a run: shares of decisions, frequent questions without an answer, answers that are never used."""

import numpy as np
import polars as pl
from sklearn.cluster import AgglomerativeClustering

from sbert.apply.answers.answer_pool import joined_texts
from sbert.apply.answers.decide import AnswerDecision
from sbert.apply.answers.job import AnswersJob
from sbert.apply.answers.model import load_model
from sbert.apply.answers.page import report_page
from sbert.apply.answers.report import AnswersReport, QuestionGroup, UnusedAnswer
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import DerivedReport
from sbert.storage.files import join, write_bytes
from sbert.suggest.suggestion_file import write_suggestions
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.unit import unit_rows

__all__ = ["finish_report", "write_questions_to_label"]

REPORT_NAME = "answers.html"
MAX_GROUPED = 3_000
"""Unanswered questions that are grouped: those with the smallest text hashes, a random sample."""
GROUP_DISTANCE = 0.35
"""Mean cosine distance up to which unanswered questions are one group."""
MAX_SHOWN = 30


def finish_report(output: DerivedReport) -> AnswersReport:
    """Count the decisions of the newest output, and write the page beside it."""
    derived = DerivedTable.open(output.out_uri, output.version)
    job = AnswersJob.model_validate(derived.info.settings)
    rows = derived.scan()
    decisions = _counts(rows, "decision")
    answered = rows.filter(pl.col("decision") == AnswerDecision.ANSWER.value)
    mean = answered.select(1 - pl.col("probability").mean()).collect().item()
    best = pl.col("answers").list.first().struct
    used = answered.select(source=best.field("source"), id=best.field("id")).unique().collect()
    answers = Table.open(job.answers_uri, job.answers_version)
    columns = [name for name in job.answer_columns if name not in ("source", "id")]
    unused = answers.scan().join(used.lazy(), on=["source", "id"], how="anti")
    shown = unused.select("source", "id", *columns).sort("source", "id").head(MAX_SHOWN).collect()
    report = AnswersReport(
        output=output,
        model=load_model(job.model_uri).record,
        num_answers=answers.num_rows,
        decisions={each.value: decisions.get(each.value, 0) for each in AnswerDecision},
        reasons={name: count for name, count in _counts(rows, "reason").items() if name},
        expected_error=None if mean is None else float(mean),
        num_unused=unused.select(pl.len()).collect().item(),
        unused=tuple(
            UnusedAnswer(source=row["source"], id=row["id"], text=str(row[columns[0]]) if columns else None)
            for row in shown.to_dicts()
        ),
        unanswered=_groups(derived, job),
        report_uri=join(output.out_uri, "_reports", REPORT_NAME),
    )
    write_bytes(report.report_uri, report_page(report, job.settings.promised_error).encode())
    return report


def write_questions_to_label(report: AnswersReport, uri: str) -> int:
    """Write the unanswered questions as labels of the kind ``pairs`` without an answer; return their number.

    Rows without an answer are passed over by everything that reads labels, until a person fills them in.

    Raises:
        SettingsError: the file exists, or its ending names no format of labels.
    """
    groups = [group for group in report.unanswered if group.text is not None]
    rows = pl.DataFrame(
        {
            "anchor": [group.text for group in groups],
            "positive": pl.Series([None] * len(groups), dtype=pl.String),
            "num_questions": [group.num_questions for group in groups],
            "source": [group.source for group in groups],
            "id": [group.id for group in groups],
        }
    )
    write_suggestions(rows, uri)
    return rows.height


def _counts(rows: pl.LazyFrame, column: str) -> dict[str, int]:
    counted = rows.group_by(column).len().sort("len", descending=True).collect()
    return dict(counted.iter_rows())


def _groups(derived: DerivedTable, job: AnswersJob) -> tuple[QuestionGroup, ...]:
    """Group a sample of the unanswered questions by meaning, the largest groups first."""
    questions = Table.open(derived.info.table_uri, derived.info.table_version)
    info = questions.encoder
    silent = derived.scan().filter(pl.col("decision") == AnswerDecision.ABSTAIN.value)
    sample = silent.select("source", "id", "text_hash").sort("text_hash", "source", "id").head(MAX_GROUPED).collect()
    if sample.is_empty():
        return ()
    columns = [] if job.question_column is None else [job.question_column]
    frame = (
        questions.scan()
        .select("source", "id", *vector_names(info.precision), *columns)
        .join(sample.lazy(), on=["source", "id"])
        .collect()
        .sort("source", "id")
    )
    rows = frame.to_arrow()
    vectors_ND = unit_rows(vector_matrix(rows, info.dim, info.precision))
    texts = joined_texts(rows, columns, questions).to_list() if columns else [None] * frame.height
    names = np.zeros(frame.height, np.int64)
    if frame.height > 1:
        names = AgglomerativeClustering(
            n_clusters=None, metric="cosine", linkage="average", distance_threshold=GROUP_DISTANCE
        ).fit_predict(np.where(vectors_ND.any(axis=1, keepdims=True), vectors_ND, 1 / np.sqrt(info.dim)))
    groups = []
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        middle = int(members[np.argmax(vectors_ND[members] @ vectors_ND[members].mean(axis=0))])
        groups.append(
            QuestionGroup(
                num_questions=len(members), source=frame["source"][middle], id=frame["id"][middle], text=texts[middle]
            )
        )
    return tuple(sorted(groups, key=lambda group: (-group.num_questions, group.source, group.id))[:MAX_SHOWN])
