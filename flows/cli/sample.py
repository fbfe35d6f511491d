"""``sbert sample``."""

from typing import Annotated, Any

import typer

from flows.cli.common import Json, app, errors, out, print_result


@app.command()
def sample(
    raw_uri: Annotated[str, typer.Argument(metavar="RAW_URI", help="Folder or .jsonl file to write, local or s3://.")],
    as_json: Json = False,
) -> None:
    """Write the sample corpus: the documentation of Python's own standard library."""
    from sbert.source.sample import write_sample

    with errors(as_json):
        num_documents = write_sample(raw_uri)
        print_result({"raw_uri": raw_uri, "num_documents": num_documents}, as_json, _show_sample)


def _show_sample(result: dict[str, Any]) -> None:
    out.print(f"wrote {result['num_documents']:,} documents under {result['raw_uri']}", markup=False)
