"""``sbert rollback``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.UPKEEP, example="sbert rollback s3://bucket/table --version 12")
def rollback(
    table_uri: TableUri,
    version: Annotated[
        int | None, typer.Option(min=0, metavar="VERSION", help="Version to restore.", show_default="the one before")
    ] = None,
    as_json: Json = False,
) -> None:
    """Restore an earlier version of TABLE (also a derived one) with a new commit; readers switch in one step."""
    with answering(as_json=as_json) as answer:
        from sbert.derived.any_table import roll_back_any

        answer.print(roll_back_any(table_uri, version).model_dump(mode="json"), _show_rollback)


def _show_rollback(done: dict[str, Any]) -> None:
    out.print(
        f"{done['table_uri']}: version {done['version']} shows the {counted(done['num_rows'], 'row')} of version "
        f"{done['restored']} again (before: {counted(done['num_rows_before'], 'row')} of version {done['replaced']}), "
        "encoder "
        f"{done['encoder']}",
        markup=False,
    )
