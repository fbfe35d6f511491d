"""Answer the questions of a table from the answers of another.

>>> from sbert.apply.answers.run import answer_questions
>>> report = answer_questions("data/questions", "data/faq", "data/answered")  # doctest: +SKIP

The first run makes a model: fitted if there are labels, else with fixed weights. Later runs use it until labels are named
again, so that a night costs what changed.
"""

import logging

import polars as pl

from sbert.apply.answers.answer_pool import AnswerTables, TableSplits, joined_texts
from sbert.apply.answers.fit import fit_model
from sbert.apply.answers.job import AnswersJob
from sbert.apply.answers.language import FRAME_TOKENS, foreign_letters
from sbert.apply.answers.model import AnswerModel, FittedModel, fixed_calibrations, load_model, save_model
from sbert.apply.answers.report import AnswersReport
from sbert.apply.answers.report_figures import finish_report
from sbert.apply.answers.settings import AnswerSettings
from sbert.apply.answers.shared_words import WordCounts, count_words
from sbert.derived.derived_table import DerivedTable, find_derived, find_output
from sbert.derived.run import derive
from sbert.errors import EncoderMismatchError, MissingError, SettingsError, TableError
from sbert.index.words.settings import find_text_column, words_text_column
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels
from sbert.labels.settings import LabelSettings
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["answer_questions", "prepare_job"]

log = logging.getLogger(__name__)

TOKEN_SAMPLE = 100_000
"""Least number of tokens of answers whose length is measured."""
PAIRS = LabelSettings(kind=LabelKind.PAIRS)


def answer_questions(
    questions_uri: str,
    answers_uri: str,
    out_uri: str,
    settings: AnswerSettings | None = None,
    *,
    second_uri: str | None = None,
    labels_uri: str | None = None,
    explain: bool = False,
    concurrency: int = 1,
) -> AnswersReport:
    """Bring the answers of every question up to date, and write the report.

    Args:
        questions_uri: embeddings table of the questions.
        answers_uri: embeddings table of the answers: of their questions, or of the answers themselves.
        out_uri: the derived table; made if it is not there.
        settings: what is compared and decided.
        second_uri: table with the rows of `answers_uri` by another text, if there is one.
        labels_uri: labels of the kind ``pairs`` (question, answer) to fit with; None for the model that is there.
        explain: say why each question and its first answer are near.
        concurrency: splits that are answered at the same time.

    Raises:
        EncoderMismatchError: the tables have different encoders.
        LabelError, NotATableError, SettingsError, TableError: as `prepare_job` and `derive`.
    """
    job = prepare_job(
        questions_uri, answers_uri, out_uri, settings, second_uri=second_uri, labels_uri=labels_uri, explain=explain
    )
    return finish_report(derive(job, questions_uri, out_uri, concurrency=concurrency))


def prepare_job(
    questions_uri: str,
    answers_uri: str,
    out_uri: str,
    settings: AnswerSettings | None = None,
    *,
    second_uri: str | None = None,
    labels_uri: str | None = None,
    explain: bool = False,
) -> AnswersJob:
    """Return the job for the newest versions of the answers tables, with its model made or found.

    Raises:
        EncoderMismatchError: the tables have different encoders.
        LabelError: the labels are wrong, or too few of them name an answer of the table.
        SettingsError, NotATableError, TableError: a table lacks something, or is none.
    """
    asked = settings or AnswerSettings()
    questions, first = Table.open(questions_uri), Table.open(answers_uri)
    second = None if second_uri is None else Table.open(second_uri)
    for table in (first, second):
        if table is not None:
            _check_encoder(questions, table)
            if normalize_uri(out_uri) == table.uri:
                raise SettingsError(
                    f"{out_uri}: the output needs a folder of its own: name a folder other than the tables'"
                )
    _check_conversation(questions, asked)
    find_output(out_uri, AnswersJob.name)
    question_column = find_text_column(questions, asked.question_column)
    columns = asked.answer_columns or tuple(name for name in [find_text_column(first)] if name)
    for name in columns:
        words_text_column(first, name)
    if explain:
        words_text_column(questions, asked.question_column)
        words_text_column(first)
    if question_column is None or not columns:
        log.warning(
            "words are not compared, because a table keeps no texts: keep them with `sbert refresh --keep-columns`"
        )
        columns = ()
    labels = None if labels_uri is None else load_labels(labels_uri, PAIRS, to_train=False)
    tables = AnswerTables(TableSplits(first), None if second is None else TableSplits(second), columns)
    model_uri = _known_model(out_uri, asked, questions, tables, labels)
    if model_uri is None:
        model = _fixed(tables, asked, questions)
        if labels is not None:
            model = fit_model(_pairs(labels), tables, questions, model, asked)
            record = model.record.model_copy(update={"labels_fingerprint": labels.fingerprint})
            model = model.model_copy(update={"record": record})
        model_uri, _ = save_model(out_uri, model)
    return AnswersJob(
        settings=asked,
        answers_uri=first.uri,
        answers_id=first.table_id,
        answers_version=first.version,
        second_uri=None if second is None else second.uri,
        second_id=None if second is None else second.table_id,
        second_version=None if second is None else second.version,
        question_column=question_column,
        answer_columns=columns,
        model_uri=model_uri,
        explain=explain,
    )


def _check_encoder(questions: Table, answers: Table) -> None:
    """Refuse tables whose vectors lie in different spaces; the prompts may differ.

    Raises:
        EncoderMismatchError: they do.
    """
    ours, theirs = questions.encoder, answers.encoder
    same_model = ours.model_fingerprint == theirs.model_fingerprint and ours.dim == theirs.dim
    if ours.fingerprint == theirs.fingerprint or (same_model and ours.prompt != theirs.prompt):
        return
    raise EncoderMismatchError(
        f"{questions.uri} has the encoder {ours.model} ({ours.fingerprint[:12]}), {answers.uri} has {theirs.model} "
        f"({theirs.fingerprint[:12]}): refresh one of them with the model of the other"
    )


def _check_conversation(questions: Table, settings: AnswerSettings) -> None:
    """Check that the column of conversations is named when context is asked for, and is kept when it is named.

    Raises:
        SettingsError: it is not.
    """
    if settings.conversation_column is None:
        if settings.context_turns == 1:
            return
        raise SettingsError(
            f"context_turns is {settings.context_turns}, but conversation_column is empty: name that column"
        )
    if settings.conversation_column not in questions.kept_schema:
        raise SettingsError(
            f"{questions.uri}: no kept column {settings.conversation_column!r} (kept: "
            f"{', '.join(questions.kept_schema) or 'none'}): keep it with `sbert refresh --keep-columns`"
        )


def _pairs(labels: LabelSet) -> pl.DataFrame:
    """Return all labels: the calibration is cross-fitted by itself."""
    return pl.concat([part.select("anchor", "positive") for part in (labels.train, labels.dev, labels.test)])


def _known_model(
    out_uri: str, settings: AnswerSettings, questions: Table, tables: AnswerTables, labels: LabelSet | None
) -> str | None:
    """Return the model of the output that is there, if these settings, tables, encoder and labels made it."""
    before: DerivedTable | None = find_derived(out_uri)
    if before is None or before.info.job != AnswersJob.name:
        return None
    uri = str(before.info.settings["model_uri"])
    try:
        model = load_model(uri).record
    except (MissingError, TableError) as error:
        log.warning("the model of the last run cannot be read and is made again: %s", error)
        return None
    if labels is not None and model.labels_fingerprint != labels.fingerprint:
        return None
    now = {
        "settings": settings.model_dump(mode="json"),
        "answers_id": tables.first.table.table_id,
        "second_id": None if tables.second is None else tables.second.table.table_id,
        "answer_columns": list(tables.text_columns),
    }
    changed = [name for name, value in now.items() if before.info.settings.get(name) != value]
    if model.encoder_fingerprint != questions.encoder.fingerprint:
        changed.append("encoder")
    if not changed:
        return uri
    if labels is None and model.origin == "labels":
        log.warning("%s: a model without labels replaces the model that was fitted to labels, because these changed: %s. "
                    "Name the labels to fit it again", out_uri, ", ".join(changed))  # fmt: skip
    return None


def _fixed(tables: AnswerTables, settings: AnswerSettings, questions: Table) -> FittedModel:
    """Return a model with fixed weights, and the counts of words."""
    counts, token_length, letters = _count(tables)
    first, first_two = fixed_calibrations()
    threshold = 1 - settings.promised_error
    record = AnswerModel(
        origin="fixed",
        weights=settings.weights,
        first=first.model_copy(update={"threshold": threshold}),
        first_two=first_two.model_copy(update={"threshold": threshold}),
        promised_error=settings.promised_error,
        token_length=token_length,
        letters=letters,
        encoder_fingerprint=questions.encoder.fingerprint,
        num_answers=counts.num_answers,
        mean_length=counts.mean_length,
    )
    return FittedModel(record=record, counts=counts)


def _count(tables: AnswerTables) -> tuple[WordCounts, float | None, str | None]:
    """Count the words of the answers, measure the characters for each token of the encoded texts, and note their letters."""
    table, columns = tables.first.table, tables.text_columns
    if not columns:
        return count_words(pl.Series([], dtype=pl.String)), None, None
    encoded = find_text_column(table)
    texts, characters, tokens = [pl.Series("text", [], dtype=pl.String)], 0, 0
    read = list(dict.fromkeys([*columns, *([encoded] if encoded else []), "num_tokens"]))
    for rows in tables.first.rows(tables.first.num_rows, read):
        texts.append(joined_texts(rows, columns, table))
        if encoded is not None and tokens < TOKEN_SAMPLE:
            lengths = joined_texts(rows, [encoded], table).str.len_chars() + len(table.encoder.prompt)
            characters += int(lengths.sum())
            tokens += sum(max(count - FRAME_TOKENS, 0) for count in rows["num_tokens"].to_pylist())
    return count_words(pl.concat(texts)), characters / tokens if tokens else None, foreign_letters(texts)
