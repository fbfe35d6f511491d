"""``sbert align``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, Json, OutUri, TableUri, check_location
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.APPLICATIONS, example="sbert align s3://bucket/german s3://bucket/english s3://bucket/translations")
def align(
    table_uri: TableUri,
    right_uri: Annotated[
        str,
        typer.Argument(
            metavar="TABLE_URI",
            help="Table of the other language, made with the same encoder.",
            callback=check_location,
        ),
    ],
    out_uri: OutUri,
    k: Annotated[
        int, typer.Option("-k", "--num", min=1, max=64, metavar="N", help="Nearest rows that a pair is compared with.")
    ] = 16,
    min_margin: Annotated[
        float,
        typer.Option(
            min=0, max=10, metavar="RATIO", help="Least ratio of a pair's cosine to that of the nearest rows."
        ),
    ] = 1.0,
    max_length_ratio: Annotated[
        float,
        typer.Option(
            min=1, max=100, metavar="RATIO", help="Factor by which one text of a pair may be longer than usual."
        ),
    ] = 2.5,
    concurrency: Concurrency = 1,
    as_json: Json = False,
) -> None:
    """Write which row of the second TABLE is the translation of each row of the first, one to one, to the table OUT."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.alignment.job import AlignmentJob
        from sbert.apply.alignment.run import align_tables

        job = AlignmentJob.of_newest(right_uri, k=k, min_margin=min_margin, max_length_ratio=max_length_ratio)
        report = align_tables(job, table_uri, out_uri, concurrency=concurrency)
        answer.print(report.model_dump(mode="json"), _show_alignment)


def _show_alignment(report: dict[str, Any]) -> None:
    show_derived(report)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report["num_without"].items()))
    sides = report["sides"]
    out.print(
        f"  {counted(report['num_matched'], 'row')} with a partner" + (f"; without one: {reasons}" if reasons else ""),
        markup=False,
    )
    if sides is not None:
        out.print(
            f"  cosine of the nearest row: {sides['across']:.2f} in the other table, {sides['within']:.2f} in the own table",
            style="dim",
            markup=False,
        )
