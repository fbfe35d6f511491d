"""Arguments and options that several commands share: one name, one meaning, one help text."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sbert.errors import SbertError

if TYPE_CHECKING:
    from flows.engines import EngineSettings

__all__ = [
    "AllowDrop",
    "Concurrency",
    "DestinationLocation",
    "DryRun",
    "EngineName",
    "EngineOption",
    "Explain",
    "IdColumn",
    "Json",
    "KeepColumns",
    "KeepNoColumns",
    "LabelsUri",
    "Model",
    "ModelsUri",
    "OutUri",
    "Passages",
    "PassagesChoice",
    "RawUri",
    "SettingsJson",
    "TableUri",
    "TextColumn",
    "check_location",
    "parse_engine",
]


def check_location(uri: str | None) -> str | None:
    """Refuse an empty location, and credentials in one: Prefect stores the parameters of a flow."""
    from sbert.storage.files import check_no_credentials

    try:
        if uri is not None:
            if not uri.strip():
                raise typer.BadParameter("the location is empty: name a file, a folder or a URI")
            check_no_credentials(uri)
    except SbertError as error:
        raise typer.BadParameter(str(error)) from error
    return uri


def without_secret(location: str) -> str:
    """Refuse a destination that holds a password."""
    from sbert.sync.destinations.locate import check_no_secret

    try:
        check_no_secret(location)
    except SbertError as error:
        raise typer.BadParameter(str(error)) from error
    return location


class EngineName(StrEnum):
    """Engines by name; the same words as `flows.engines.EngineKind`, which takes seconds to import."""

    LOCAL = "local"
    RAY = "ray"
    DASK = "dask"


class PassagesChoice(StrEnum):
    """The values of the setting ``source.passages.of``: the same words as `sbert.source.passages.settings.PassagesOf`."""

    EVERYTHING = "everything"
    DOCUMENTS = "documents"
    NOTHING = "nothing"


RawUri = Annotated[
    str,
    typer.Argument(
        metavar="RAW_URI", help="File, folder or glob of raw text, local or s3://.", callback=check_location
    ),
]
TableUri = Annotated[
    str,
    typer.Argument(metavar="TABLE_URI", help="Folder of the table, local or s3://.", callback=check_location),
]
OutUri = Annotated[
    str,
    typer.Argument(metavar="OUT_URI", help="Folder of the derived table, local or s3://.", callback=check_location),
]
ModelsUri = Annotated[
    str,
    typer.Argument(metavar="MODELS_URI", help="Folder of the model registry, local or s3://.", callback=check_location),
]
DestinationLocation = Annotated[
    str,
    typer.Argument(
        metavar="DESTINATION",
        help="Vector store, and the name in it: postgresql://host/database#schema.name, lancedb:FOLDER#name, "
        "qdrant:URL#name, milvus:URL#name. Passwords and keys come from the environment.",
        callback=without_secret,
    ),
]
LabelsUri = Annotated[
    str,
    typer.Argument(
        metavar="LABELS_URI", help="File, folder or glob of labels, local or s3://.", callback=check_location
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Encoder: folder, model registry, s3:// URI or Hugging Face id.",
        show_default="the table's own, for a new table the packaged one",
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="Column that holds the text.", show_default="the table's own, for a new table text"
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column that holds the row's id.",
        show_default="the table's own, for a new table id where there is one, else derived",
    ),
]
KeepColumns = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Source columns to keep in the table, separated by commas.", show_default="the table's own"
    ),
]
KeepNoColumns = Annotated[
    bool,
    typer.Option(
        "--keep-no-columns", help="Keep no source column. A table that keeps some loses them: add --allow-drop."
    ),
]
Passages = Annotated[
    PassagesChoice | None,
    typer.Option(
        "--passages",
        help="Which texts are cut into passages, one row each: everything, documents (Markdown, HTML, PDF), or nothing.",
        show_default="the table's own, for a new table documents",
    ),
]
SettingsJson = Annotated[
    str | None,
    typer.Option(
        metavar="JSON|@FILE",
        help="Further settings: a JSON object, or a file or s3:// URI that holds one. `sbert settings` lists them.",
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Splits to build at the same time.")]
AllowDrop = Annotated[
    bool,
    typer.Option(
        "--allow-drop",
        help="Allow the run to remove any number of rows, objects and kept columns; other settings stay.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Add a column that says why the two texts of each pair are near, and what their vectors overlook.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar=f"{'|'.join(EngineName)}|JSON",
        help="Engine that builds splits: its name, or a JSON object of its settings.",
    ),
]


def parse_engine(text: str) -> "EngineSettings":
    """Read an engine given by its name or as a JSON object.

    Raises:
        SettingsError, ValidationError: an unknown name, or settings that cannot work.
    """
    from flows.engines import EngineSettings
    from sbert.settings import read_settings

    return read_settings(EngineSettings, text) if text.startswith("{") else EngineSettings.model_validate(text)
