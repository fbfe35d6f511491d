"""``sbert entities``."""

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
    check_location,
    parse_engine,
)
from flows.cli.output import answering, out
from flows.cli.prefect_server import loading_flow
from flows.cli.settings_json import load_named
from sbert.counted import counted


@command(Panel.APPLICATIONS, example="sbert entities s3://bucket/table s3://bucket/entity-labels s3://bucket/entities")
def entities(
    table_uri: TableUri,
    labels_uri: LabelsUri,
    out_uri: OutUri,
    base_labels: Annotated[
        str | None,
        typer.Option(
            "--base-labels",
            metavar="LABELS_URI",
            callback=check_location,
            help="Many texts with entities of any types, which teach where names begin and end.",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Kept column that holds the text.", show_default="the encoded one"),
    ] = None,
    settings: SettingsJson = None,
    concurrency: Concurrency = 1,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Write the entities in the text of every row of TABLE to the table OUT, learned from few labels."""
    with answering(as_json=as_json) as answer:
        from sbert.apply.entities.settings import EntitySettings

        parsed = load_named(settings, EntitySettings, {"base_labels_uri": base_labels, "text_column": text_column})
        if engine == "local":
            from sbert.apply.entities.run import find_entities

            report = find_entities(table_uri, labels_uri, out_uri, parsed, concurrency=concurrency)
        else:
            with loading_flow():
                from flows.entities import find_table_entities

                workers = parse_engine(engine)
            report = find_table_entities(table_uri, labels_uri, out_uri, parsed, concurrency, workers)
        answer.print(report.model_dump(mode="json"), _show)


def _show(report: dict[str, Any]) -> None:
    show_derived(report["output"])
    labelled = report["num_labelled_entities"]
    out.print(
        f"  learned from {counted(sum(labelled.values()), 'entity', 'entities')} of {counted(len(labelled), 'type')} in "
        f"{counted(report['num_labelled_texts'], 'text')}"
        + (f", and from {counted(report['num_base_texts'], 'base text')}" if report["num_base_texts"] else ""),
        markup=False,
    )
    if report["num_tuned_layers"]:
        layers = counted(report["num_tuned_layers"], "layer")
        out.print(f"  {layers} of the encoder also learned from the base texts", markup=False)
    if report["frozen_encoder"]:
        out.print(f"  the encoder was not tuned: {report['frozen_encoder']}", markup=False)
    entities, rows = (
        counted(report["num_entities"], "entity", "entities"),
        counted(report["num_rows_with_entities"], "row"),
    )
    out.print(f"  {entities} in {rows}", markup=False)
    for each in report["types"]:
        out.print(f"  {each['type']}: {each['num_entities']:,} ({', '.join(each['frequent'])})", markup=False)
