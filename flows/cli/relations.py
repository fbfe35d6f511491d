"""``sbert relations``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import (
    Concurrency,
    EngineOption,
    Json,
    LabelsUri,
    OutUri,
    SettingsJson,
    TableUri,
    parse_engine,
)
from flows.cli.output import answering, out
from flows.cli.prefect_server import loading_flow
from flows.cli.settings_json import load_named
from sbert.counted import counted


@command(
    Panel.APPLICATIONS, example="sbert relations s3://bucket/entities s3://bucket/relation-labels s3://bucket/relations"
)
def relations(
    table_uri: TableUri,
    labels_uri: LabelsUri,
    out_uri: OutUri,
    entities_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Kept column of an embeddings table that marks the names: JSON of start, end, type."
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(min=0, max=0.999, metavar="SHARE", help="Less likely relations are left out.", show_default="0.5"),
    ] = None,
    settings: SettingsJson = None,
    concurrency: Concurrency = 1,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Write the relations between the names of every row to the table OUT; TABLE is an output of `sbert entities`."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.relations.settings import RelationSettings

        named = {"entities_column": entities_column, "min_probability": min_probability}
        parsed = load_named(settings, RelationSettings, named)
        if engine == "local":
            from sbert.apply.relations.run import find_relations

            report = find_relations(table_uri, labels_uri, out_uri, parsed, concurrency=concurrency)
        else:
            with loading_flow():
                from flows.relations import find_table_relations

                workers = parse_engine(engine)
            report = find_table_relations(table_uri, labels_uri, out_uri, parsed, concurrency, workers)
        answer.print(report.model_dump(mode="json"), _show)


def _show(report: dict[str, Any]) -> None:
    show_derived(report["output"])
    labelled = report["num_labelled_pairs"]
    none = f" and {report['num_labelled_none']:,} without" if report["num_labelled_none"] else ""
    out.print(
        f"  learned from {counted(sum(labelled.values()), 'pair')} of {counted(len(labelled), 'relation')}{none}; tested on "
        f"the labels: {report['found']:.0%} of these pairs get their relation, {report['kept_out']:.0%} of others get none",
        markup=False,
    )
    relations, rows = counted(report["num_relations"], "relation"), counted(report["num_rows_with_relations"], "row")
    out.print(f"  {relations} in {rows}", markup=False)
    for each in report["relations"]:
        out.print(f"  {each['relation']}: {each['num_pairs']:,} ({'; '.join(each['examples'])})", markup=False)
