"""``sbert verify``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, TableUri, app, errors, out, print_result


@app.command()
def verify(
    table_uri: TableUri,
    version: Annotated[int | None, typer.Option(min=0, help="Version to check. [newest]")] = None,
    as_json: Json = False,
) -> None:
    """Read and check every row of TABLE; exit status 1 and a list of findings when something is wrong."""
    from sbert.table.verify import verify_table

    with errors(as_json):
        found = verify_table(table_uri, version)
        print_result(found.model_dump(mode="json"), as_json, _show_verification)
        if found.findings:
            raise typer.Exit(1)


def _show_verification(found: dict[str, Any]) -> None:
    verdict = f"{len(found['findings'])} findings" if found["findings"] else "all is well"
    out.print(
        f"{found['table_uri']} version {found['version']}: {found['num_shards']:,} shards, {found['num_rows']:,} rows "
        f"checked, {verdict}",
        markup=False,
    )
    for finding in found["findings"]:
        out.print(f"  {finding}", markup=False, style="red")
