"""``sbert sample``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, check_location
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.JOBS, example="sbert sample data/raw")
def sample(
    raw_uri: Annotated[
        str,
        typer.Argument(
            metavar="RAW_URI",
            help="Folder or .jsonl file to write, local or s3://.",
            callback=check_location,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Write the sample corpus: the documentation of Python's own standard library."""
    with answering(as_json=as_json) as answer:
        from sbert.source.sample import write_sample

        num_documents = write_sample(raw_uri)
        answer.print({"raw_uri": raw_uri, "num_documents": num_documents}, _show_sample)


def _show_sample(result: dict[str, Any]) -> None:
    out.print(f"wrote {counted(result['num_documents'], 'document')} under {result['raw_uri']}", markup=False)
