"""Parameters that several flows have; title, description and bounds make the form in the Prefect UI."""

from typing import Annotated, Any

from pydantic import Field

from flows.engines import EngineSettings

__all__ = [
    "NO_CREDENTIALS",
    "AllowDrop",
    "Concurrency",
    "DryRun",
    "EngineChoice",
    "Model",
    "RawUri",
    "TableUri",
    "form",
]


NO_CREDENTIALS = "^(?!.*://[^/]*@)"
"""Pattern of a location without ``key:secret@``: the form refuses one before it is stored."""


def form(*, title: str, description: str, pattern: str | None = None, **bounds: Any) -> Any:
    """Describe a flow parameter; `pattern` is checked by the form and the server.

    Prefect puts a title and description of its own over those of a `Field`, but leaves the schema's extras alone.
    """
    extra: dict[str, Any] = {"title": title, "description": description}
    if pattern is not None:
        extra["pattern"] = pattern
    return Field(json_schema_extra=extra, **bounds)


RawUri = Annotated[
    str,
    form(
        title="Raw text",
        min_length=1,
        pattern=NO_CREDENTIALS,
        description="File, folder or glob of raw text, local or s3:// (.jsonl, .csv, .parquet, .txt, plain, .gz or .zst).",
    ),
]
TableUri = Annotated[
    str,
    form(
        title="Table",
        min_length=1,
        pattern=NO_CREDENTIALS,
        description="Folder of the table, local or s3:// (made if it is not there).",
    ),
]
Model = Annotated[
    str | None,
    form(
        title="Model",
        description="Sentence encoder: folder, s3:// URI or hub id; empty for the table's own, or the packaged default.",
    ),
]
Concurrency = Annotated[
    int, form(title="Concurrency", ge=1, le=256, description="Splits that are worked on at once (splits).")
]
DryRun = Annotated[bool, form(title="Dry run", description="Only plan: report what would be done, write nothing.")]
AllowDrop = Annotated[
    bool,
    form(
        title="Allow drop",
        description="Allow the run to remove any number of rows and source objects, and kept columns of the table.",
    ),
]
EngineChoice = Annotated[
    EngineSettings,
    form(title="Engine", description="Where splits are built: threads of this process, a Ray or a Dask cluster."),
]
