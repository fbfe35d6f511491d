"""``sbert duplicates``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, Explain, Json, OutUri, TableUri, check_location
from flows.cli.output import answering, out
from sbert.counted import counted


@command(
    Panel.APPLICATIONS,
    example="sbert duplicates s3://bucket/table s3://bucket/duplicates --labels s3://bucket/pairs --precision 0.95",
)
def duplicates(
    table_uri: TableUri,
    out_uri: OutUri,
    similarity: Annotated[
        float | None,
        typer.Option(
            min=0.3, max=0.999, metavar="COSINE", help="Least cosine of texts that say the same.", show_default="0.9"
        ),
    ] = None,
    labels_uri: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS_URI",
            callback=check_location,
            help="Labelled pairs (scored_pairs or pairs) that the rule is fitted on, in place of a cosine.",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.501,
            max=0.999,
            metavar="SHARE",
            help="With labels: promised share of right pairs among those called the same.",
            show_default="the rule with the best F1",
        ),
    ] = None,
    conflict_check: Annotated[
        bool,
        typer.Option(
            "--conflict-check/--no-conflict-check",
            help="Keep texts apart that differ in a number, a name or a negation.",
        ),
    ] = True,
    guard: Annotated[
        bool | None, typer.Option("--guard/--no-guard", hidden=True, help="The old name of --conflict-check.")
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column that holds the text.", show_default="the encoded one"),
    ] = None,
    explain: Explain = False,
    concurrency: Concurrency = 1,
    as_json: Json = False,
) -> None:
    """Write the groups of texts of TABLE that say the same to the table OUT; a later run computes only changed rows."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.duplicates.fit import FitSettings
        from sbert.apply.duplicates.run import DuplicateSettings, find_duplicates

        settings = DuplicateSettings.model_validate(
            {
                "similarity": similarity,
                "labels_uri": labels_uri,
                "fit": FitSettings(precision=precision),
                "text_column": text_column,
                "explain": explain,
                **({"conflict_check": conflict_check} if guard is None else {"guard": guard}),
            }
        )
        report = find_duplicates(table_uri, out_uri, settings, concurrency=concurrency)
        answer.print(report.model_dump(mode="json"), _show_duplicates)


def _show_duplicates(report: dict[str, Any]) -> None:
    show_derived(report)
    out.print(
        f"  {counted(report['num_groups'], 'group')} of texts that say the same, with "
        f"{counted(report['num_rows_in_groups'], 'row')}: "
        f"{counted(report['num_repeats'], 'repeat')} of another row",
        markup=False,
    )
    model = report["rule"]["model"]
    if model is None:
        out.print(f"  texts with a cosine of {report['rule']['similarity']:g} or more count as the same", markup=False)
    else:
        out.print(
            f"  fitted on {counted(model['num_pairs'], 'labelled pair')}: {model['precision']:.1%} of pairs called the "
            f"same are the same (95 % interval {model['precision_low']:.1%} to {model['precision_high']:.1%}); "
            f"{model['recall']:.1%} of all same pairs are found",
            markup=False,
        )
