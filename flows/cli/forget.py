"""``sbert forget``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.errors import SbertError


@command(Panel.UPKEEP, example="sbert forget s3://bucket/table 'postgresql://host/database#public.docs'")
def forget(
    table_uri: TableUri,
    consumer: Annotated[
        str,
        typer.Argument(
            metavar="CONSUMER", help="Vector store or derived table that is gone, as sbert inspect names it."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Take a vector store or derived table that is gone off the list of consumers of TABLE; it is not touched itself."""
    with answering(as_json=as_json) as answer:
        from sbert.table.delta import Table
        from sbert.table.followers import forget_follower

        table = Table.open(table_uri)
        state = forget_follower(table, _name_of(consumer))
        answer.print({"table_uri": table.uri, "forgotten": state.model_dump(mode="json")}, _show_forget)


def _name_of(consumer: str) -> str:
    """Return the name of a vector store with its whole location; of anything else, the consumer as it is."""
    from sbert.sync.destinations.locate import open_destination

    try:
        return str(open_destination(consumer))
    except SbertError:  # a derived table, or the store's client is not installed
        return consumer


def _show_forget(answer: dict[str, Any]) -> None:
    state = answer["forgotten"]
    out.print(
        f"{answer['table_uri']}: {state['name']} ({state['kind']}, version {state['version']}) is forgotten; it is listed "
        "again if it is brought up to date again",
        markup=False,
    )
