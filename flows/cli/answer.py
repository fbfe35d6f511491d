"""``sbert answer``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import (
    Concurrency,
    EngineOption,
    Explain,
    Json,
    OutUri,
    SettingsJson,
    check_location,
    parse_engine,
)
from flows.cli.output import answering, out
from flows.cli.prefect_server import loading_flow
from flows.cli.settings_json import load_settings
from sbert.counted import counted


@command(
    Panel.APPLICATIONS,
    example="sbert answer s3://bucket/questions s3://bucket/faq s3://bucket/answered --labels s3://bucket/pairs",
)
def answer(
    questions_uri: Annotated[
        str, typer.Argument(metavar="QUESTIONS", help="Embeddings table of the questions.", callback=check_location)
    ],
    answers_uri: Annotated[
        str, typer.Argument(metavar="ANSWERS", help="Embeddings table of the answers.", callback=check_location)
    ],
    out_uri: OutUri,
    second: Annotated[
        str | None,
        typer.Option(
            "--answer-texts",
            metavar="TABLE_URI",
            callback=check_location,
            help="Table with the rows of ANSWERS by another text: the answers, where ANSWERS holds questions.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS_URI",
            callback=check_location,
            help="Questions with their answers (pairs): weights, probability and thresholds are fitted to them.",
            show_default="the model of the last run",
        ),
    ] = None,
    promised_error: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            metavar="SHARE",
            help="Share of the given answers that may be wrong.",
            show_default="0.05",
        ),
    ] = None,
    to_label: Annotated[
        str | None,
        typer.Option(
            "--to-label",
            metavar="FILE",
            callback=check_location,
            help="New file of labels to fill in: the most frequent questions without an answer.",
        ),
    ] = None,
    explain: Explain = False,
    settings: SettingsJson = None,
    concurrency: Concurrency = 1,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Write the best answers of every row of QUESTIONS to the table OUT, and whether to give them; compute only changes."""
    with answering(as_json=as_json) as reply:
        from sbert.apply.answers.report_figures import write_questions_to_label
        from sbert.apply.answers.settings import AnswerSettings
        from sbert.suggest.suggestion_file import check_target

        parsed = load_settings(settings, AnswerSettings)
        if promised_error is not None:
            parsed = parsed.model_copy(update={"promised_error": promised_error})
        if to_label is not None:
            check_target(to_label)
        if engine == "local":
            from sbert.apply.answers.run import answer_questions

            report = answer_questions(
                questions_uri,
                answers_uri,
                out_uri,
                parsed,
                second_uri=second,
                labels_uri=labels,
                explain=explain,
                concurrency=concurrency,
            )
        else:
            with loading_flow():
                from flows.answers import answer_table

                workers = parse_engine(engine)
            report = answer_table(
                questions_uri, answers_uri, out_uri, second, labels, parsed, concurrency, workers, explain
            )
        if to_label is not None:
            write_questions_to_label(report, to_label)
        reply.print(report.model_dump(mode="json"), _show)


def _show(report: dict[str, Any]) -> None:
    from sbert.apply.answers.decide import Reason

    show_derived(report["output"])
    decisions = report["decisions"]
    silent = [f"{count:,} {name}" for name, count in report["reasons"].items() if name != Reason.TWO_ANSWERS]
    out.print(
        f"  {decisions['answer']:,} answered, {decisions['clarify']:,} to clarify, {decisions['abstain']:,} without answer"
        + (f" ({', '.join(silent)})" if silent else ""),
        markup=False,
    )
    model, quality = report["model"], report["model"]["quality"]
    if quality is None:
        out.print("  no labels: the probabilities are a guess; fit them with --labels", markup=False)
    else:
        out.print(
            f"  promised error {model['promised_error']:.1%}; in cross-validation {quality['error']:.1%} "
            f"[{quality['error_low']:.1%}, {quality['error_high']:.1%}], AUROC {quality['auroc']:.3f} "
            f"[{quality['auroc_low']:.3f}, {quality['auroc_high']:.3f}] "
            f"({counted(quality['num_questions'], 'labelled question')})",
            markup=False,
        )
    out.print(f"  {report['num_unused']:,} of {counted(report['num_answers'], 'answer')} are never used", markup=False)
    out.print(f"  report: {report['report_uri']}", markup=False)
