"""``sbert rollback``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, TableUri, app, errors, out, print_result


@app.command()
def rollback(
    table_uri: TableUri,
    version: Annotated[int | None, typer.Option(help="Version to restore. [the one before]")] = None,
    as_json: Json = False,
) -> None:
    """Restore an earlier version of TABLE by a new commit; readers switch in one step."""
    from sbert.table.rollback import roll_back

    with errors(as_json):
        print_result(roll_back(table_uri, version).model_dump(mode="json"), as_json, _show_rollback)


def _show_rollback(done: dict[str, Any]) -> None:
    out.print(
        f"{done['table_uri']}: version {done['version']} shows the {done['num_rows']:,} rows of version "
        f"{done['restored']} again (before: {done['num_rows_before']:,} rows of version {done['replaced']}), encoder "
        f"{done['encoder']}",
        markup=False,
    )
