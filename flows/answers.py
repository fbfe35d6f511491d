"""Keep the best answers of every question up to date.

Run it with ``sbert answer QUESTIONS ANSWERS OUT``, or as a deployment that follows each published version of the questions.
"""

from typing import Annotated

from prefect import flow

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import (
    ANY_JSON,
    Concurrency,
    EngineChoice,
    Explain,
    Text,
    advanced_form,
    completed,
    location,
    make_form,
    read_advanced,
)
from flows.run_names import named_after
from sbert.apply.answers.report import AnswersReport
from sbert.apply.answers.settings import AnswerSettings
from tasks.answers import prepare_answers, report_answers

__all__ = ["answer_table"]


@flow(name="answer-table", flow_run_name=named_after("answers for {questions_uri}"), persist_result=False, **HOOKS)
def answer_table(
    questions_uri: Annotated[
        str,
        location(
            title="Questions",
            description="Folder of the embeddings table of the questions, local or s3://. "
            "Example: s3://company-embeddings/tickets",
        ),
    ],
    answers_uri: Annotated[
        str,
        location(
            title="Answers",
            description="Folder of the embeddings table of the answers, local or s3://. "
            "Example: s3://company-embeddings/faq",
        ),
    ],
    out_uri: OutUri,
    second_uri: Annotated[
        Text,
        location(
            title="Answers by another text",
            may_be_empty=True,
            description="Embeddings table of the same rows by another text, such as the answers of a FAQ. "
            "Empty: none. Example: s3://company-embeddings/faq-answers",
        ),
    ] = None,
    labels_uri: Annotated[
        Text,
        location(
            title="Labels",
            may_be_empty=True,
            description="Labels of the kind pairs (question, answer) to fit with. Empty: the model of the last run. "
            "Example: s3://company-labels/answers",
        ),
    ] = None,
    settings: Annotated[
        AnswerSettings,
        read_advanced(AnswerSettings),
        ANY_JSON,
        advanced_form("answer", '{"k": 3, "promised_error": 0.1}'),
    ] = AnswerSettings(),  # noqa: B008  (frozen)
    concurrency: Concurrency = 1,
    engine: EngineChoice = EngineSettings(),  # noqa: B008  (frozen)
    explain: Explain = False,
) -> AnswersReport:
    """Write the best answers of every question with a decision; compute only rows that changed since the last run.

    Returns:
        What was done, in numbers.
    """
    job = prepare_answers(questions_uri, answers_uri, out_uri, settings, second_uri, labels_uri, explain)
    output = run_derivation(job, questions_uri, out_uri, concurrency=concurrency, engine=engine)
    answered = report_answers(output)
    return completed(answered, answered.summary())


make_form(answer_table)
