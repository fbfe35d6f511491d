"""``sbert classify``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, EngineOption, Json, LabelsUri, OutUri, SettingsJson, TableUri, parse_engine
from flows.cli.output import answering, out
from flows.cli.prefect_server import loading_flow
from flows.cli.settings_json import load_named
from sbert.counted import counted

MEASURES = (
    ("accuracy", "accuracy"),
    ("subset_accuracy", "whole lists right"),
    ("micro_f1", "micro-F1"),
    ("macro_f1", "macro-F1"),
)
"""Measures of either kind of head, by their key in the report."""


@command(Panel.APPLICATIONS, example="sbert classify s3://bucket/table s3://bucket/labels s3://bucket/classes")
def classify(
    table_uri: TableUri,
    labels_uri: LabelsUri,
    out_uri: OutUri,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            metavar="A,B",
            help="Columns of the labels that each hold the classes of a task, separated by commas.",
            show_default="one task, in the label column",
        ),
    ] = None,
    settings: SettingsJson = None,
    search: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=1_000,
            help="Try N further settings of a head by cross-validation; `head.search` of --settings has the time limit.",
            show_default="no search",
        ),
    ] = 0,
    concurrency: Concurrency = 1,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Write the class of every row of TABLE to the table OUT, learned from labels; compute only changed rows."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.classification.settings import ClassificationSettings

        parsed = load_named(
            settings, ClassificationSettings, {"label_columns": None if tasks is None else _names(tasks)}
        )
        parsed = parsed.with_search(search)
        if engine == "local":
            from sbert.apply.classification.run import classify as classify_rows

            report = classify_rows(table_uri, labels_uri, out_uri, parsed, concurrency=concurrency)
        else:
            with loading_flow():
                from flows.classify import classify_table

                workers = parse_engine(engine)
            report = classify_table(table_uri, labels_uri, out_uri, parsed, concurrency, workers)
        silent = [silence for task in report.tasks if (silence := task.silence(parsed.head.promised_error))]
        answer.print({**report.model_dump(mode="json"), "silent": silent}, _show)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _told_answers(answered: int, num_rows: int) -> str:
    if not num_rows:
        return "the table has no rows"
    abstains = "" if answered == num_rows else ", the head abstains on " + ("all" if not answered else "the others")
    return f"{answered:,} of {counted(num_rows, 'row')} answered{abstains}"


def _show(report: dict[str, Any]) -> None:
    from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse, told_of_encoder
    from sbert.apply.classification.labelled_texts import LabelsInTable
    from sbert.apply.classification.rules_use import RulesUse
    from sbert.apply.classification.search_use import SearchUse

    show_derived(report["output"])
    for task in report["tasks"]:
        head, now = task["head"], task["now"]
        name = f"{head['task']}: " if head["task"] else ""
        answered = now["num_rows"] - now["num_abstained"]
        out.print(f"  {name}{head['reason']}", markup=False)
        if head["in_table"] is not None:
            out.print(f"  {name}{LabelsInTable.model_validate(head['in_table']).told()}", markup=False)
        quality = head["quality"]
        if quality is not None:
            values = ", ".join(
                f"{title} {quality[key]['value']:.3f} [{quality[key]['low']:.3f}, {quality[key]['high']:.3f}]"
                for key, title in MEASURES
                if key in quality
            )
            out.print(f"  {name}{values} on {counted(quality['num_rows'], 'held-out row')}", markup=False)
        classifier = None if head["classifier"] is None else ClassifierUse.model_validate(head["classifier"])
        learned = None if head["learned"] is None else LearnedUse.model_validate(head["learned"])
        for told in told_of_encoder(classifier, learned):
            out.print(f"  {name}{told}", markup=False)
        words = head["words"]
        if words is not None:
            told = f"also reads {counted(words['num_terms'], 'term')}" if words["weight"] else "reads vectors only"
            out.print(
                f"  {name}the head {told}: macro-F1 {words['macro_f1']:.3f} with words, "
                f"{words['macro_f1_without']:.3f} without, in cross-validation",
                markup=False,
            )
        if head["search"] is not None:
            out.print(f"  {name}{SearchUse.model_validate(head['search']).told()}", markup=False)
        if head["rules_use"] is not None:
            out.print(f"  {name}{RulesUse.model_validate(head['rules_use']).told()}", markup=False)
        rules = head["rules"]
        if rules is not None:
            gain = rules["gain"]
            told = f", macro-F1 {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain else ""
            out.print(
                f"  {name}rules: the head learned from {counted(rules['num_weak_rows'], 'row')} that they labelled; they "
                f"changed the class of {counted(now['num_by_rules'], 'row')}{told}",
                markup=False,
            )
        out.print(f"  {name}{_told_answers(answered, now['num_rows'])}", markup=False)
    warnings = dict.fromkeys(task["head"]["warning"] for task in report["tasks"] if task["head"]["warning"])
    for told in [*warnings, *report["silent"]]:
        out.print(f"  {told}", style="yellow", markup=False)
    out.print(f"  report: {report['report_uri']}", markup=False)
