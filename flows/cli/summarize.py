"""``sbert summarize``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, Json, OutUri, SettingsJson, TableUri, check_location
from flows.cli.output import answering, out
from flows.cli.settings_json import load_named
from sbert.counted import counted


@command(Panel.APPLICATIONS, example="sbert summarize s3://bucket/passages s3://bucket/summaries --words 60")
def summarize(
    table_uri: TableUri,
    out_uri: OutUri,
    labels_uri: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS_URI",
            help="Summaries that people wrote: columns document and summary. A ranker learns from them.",
            callback=check_location,
            show_default="none, LexRank ranks",
        ),
    ] = None,
    words: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, metavar="N", help="Most words of a summary.", show_default="100"),
    ] = None,
    sentences: Annotated[
        int | None,
        typer.Option(min=1, max=1_000, metavar="N", help="Most sentences of a summary.", show_default="no limit"),
    ] = None,
    settings: SettingsJson = None,
    concurrency: Concurrency = 1,
    as_json: Json = False,
) -> None:
    """Write a summary of every document of TABLE to the table OUT: its best sentences; compute only changed documents."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.summaries.run import summarize as summarize_table
        from sbert.apply.summaries.settings import SummaryBudget, SummarySettings

        parsed = load_named(settings, SummarySettings, {})
        named = {"max_words": words, "max_sentences": sentences}
        budget = parsed.budget.model_dump() | {name: value for name, value in named.items() if value is not None}
        parsed = parsed.model_copy(update={"budget": SummaryBudget.model_validate(budget)})
        report = summarize_table(table_uri, out_uri, parsed, labels_uri=labels_uri, concurrency=concurrency)
        answer.print(report.model_dump(mode="json"), _show)


def _show(report: dict[str, Any]) -> None:
    show_derived(report["output"])
    decision = report["decision"]
    out.print(f"  {decision['reason']}", markup=False)
    labels, quality = decision["labels"], decision["quality"]
    if labels is not None:
        out.print(
            f"  learned from {counted(labels['num_learned'], 'labelled document')}; {labels['num_not_found']:,} others are "
            "not in the table",
            markup=False,
        )
    if quality is not None:
        gain = quality["gain"]
        out.print(
            f"  gain over LexRank {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] on "
            f"{counted(quality['num_documents'], 'unseen document')}",
            markup=False,
        )
    out.print(
        f"  {counted(report['num_documents'], 'document')}, {report['num_computed']:,} computed, "
        f"{report['num_without_text']:,} without text, {report['num_cut']:,} read only in part; {report['mean_words']:.1f} "
        "words a summary on average",
        markup=False,
    )
