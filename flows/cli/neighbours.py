"""``sbert neighbours``."""

from typing import Annotated

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, EngineOption, Json, OutUri, TableUri, parse_engine
from flows.cli.output import answering
from flows.cli.prefect_server import loading_flow


@command(Panel.APPLICATIONS, example="sbert neighbours s3://bucket/table s3://bucket/neighbours -k 10")
def neighbours(
    table_uri: TableUri,
    out_uri: OutUri,
    k: Annotated[
        int, typer.Option("-k", "--num", min=1, max=1_000, metavar="N", help="Nearest rows of each row.")
    ] = 10,
    concurrency: Concurrency = 1,
    engine: EngineOption = "local",
    as_json: Json = False,
) -> None:
    """Write the nearest rows of every row of TABLE to the table OUT; a later run computes only changed rows."""
    with answering(as_json=as_json) as answer:
        if engine == "local":
            from sbert.apply.neighbours.job import NeighboursJob
            from sbert.derived.run import derive

            report = derive(NeighboursJob(k=k), table_uri, out_uri, concurrency=concurrency)
        else:
            with loading_flow():
                from flows.neighbours import find_neighbours

                workers = parse_engine(engine)
            report = find_neighbours(table_uri, out_uri, k, concurrency, workers)
        answer.print(report.model_dump(mode="json"), show_derived)
