"""Parameters that several flows have; title, description and bounds make the form in the Prefect UI.

A form has at most ten fields. The other parameters of a flow are in one field, `settings`: a JSON object, or the location of
a file that holds one. Callers in Python, deployments and the API may still pass each of these parameters by its name.
"""

import datetime as dt
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from prefect import Flow
from prefect.states import Completed
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from flows.engines import EngineSettings
from sbert.errors import SbertError, SettingsError
from sbert.refresh.job import RefreshSettings
from sbert.settings import explain, read_settings
from sbert.source.formats.all_formats import READ_ENDINGS
from sbert.storage.files import normalize_uri, read_bytes

__all__ = [
    "ANY_JSON",
    "AdvancedSettings",
    "AllowDrop",
    "Concurrency",
    "Day",
    "DryRun",
    "EngineChoice",
    "ExistingTableUri",
    "Explain",
    "Model",
    "Names",
    "Passages",
    "RawUri",
    "RefreshSettingsField",
    "TableUri",
    "Text",
    "TrialEngine",
    "TrialsAtOnce",
    "advanced_form",
    "completed",
    "form",
    "location",
    "make_form",
    "read_advanced",
    "read_object",
    "read_optional",
    "reads_with",
    "split_advanced",
]

NO_CREDENTIALS = "^(?!.*://[^/]*@)"
"""Pattern of a location without ``key:secret@``: the form refuses one before it is stored."""

R = TypeVar("R")
Settings = TypeVar("Settings", bound=BaseModel)


def form(*, title: str, description: str, pattern: str | None = None, **bounds: Any) -> Any:
    """Describe a flow parameter; `pattern` is checked by the form and the server.

    Prefect puts a title and description of its own over those of a `Field`, but leaves the schema's extras alone.
    """
    extra: dict[str, Any] = {"title": title, "description": description}
    if pattern is not None:
        extra["pattern"] = pattern
    return Field(json_schema_extra=extra, **bounds)


def location(*, title: str, description: str, may_be_empty: bool = False) -> Any:
    """Describe a flow parameter that is a path or an s3:// URI; the form refuses one that holds credentials."""
    bounds = {} if may_be_empty else {"min_length": 1}
    return form(title=title, description=description, pattern=NO_CREDENTIALS, **bounds)


def make_form(flow: Flow[..., Any], *hidden: str) -> None:
    """Make a flow's form: with empty values for defaults that no form can show, and without the hidden parameters.

    Callers can still pass hidden parameters. Prefect makes the form from the signature of the flow, and calls the function
    by the function's own signature.
    """
    whole = inspect.signature(flow.fn, eval_str=True)
    shown = [_with_empty_value(parameter) for name, parameter in whole.parameters.items() if name not in hidden]
    flow.__signature__ = whole.replace(parameters=shown)  # type: ignore[attr-defined]
    flow.parameters = parameter_schema(flow)


def _with_empty_value(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter whose default the form can send back: the UI sends each default, and the server checks its type."""
    if parameter.default is not None and not isinstance(parameter.default, BaseModel):
        return parameter
    schema = TypeAdapter(parameter.annotation).json_schema()
    kinds = {schema.get("type"), *(choice.get("type") for choice in schema.get("anyOf", []))}
    if "null" in kinds:
        return parameter
    return parameter.replace(default="" if "string" in kinds else [] if "array" in kinds else {})


class AdvancedSettings(RefreshSettings):
    """Everything that the form of a refresh or backfill has no field for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, description="Encoder of a new table: folder, s3:// URI or hub id.")
    exclude: tuple[str, ...] | None = Field(
        default=None, description="Globs of object names that a backfill leaves out."
    )
    concurrency: int | None = Field(
        default=None, ge=1, le=256, description="Splits to build at the same time (splits)."
    )
    engine: EngineSettings | None = Field(default=None, description="Engine that builds splits.")

    def refresh_settings(self) -> RefreshSettings:
        """Return the settings of the refresh itself, with the fields set that were set here."""
        own = {*AdvancedSettings.model_fields} - {*RefreshSettings.model_fields}
        return RefreshSettings.model_validate(self.model_dump(exclude_unset=True, exclude=own))


def split_advanced(settings: RefreshSettings | None) -> AdvancedSettings:
    """Return the value of the form's field, as one type."""
    if isinstance(settings, AdvancedSettings):
        return settings
    return AdvancedSettings.model_validate({} if settings is None else settings.model_dump(exclude_unset=True))


def reads_with(read: Callable[[Any], Any]) -> BeforeValidator:
    """Return a validator that reads a field, and that says what is wrong without words of Pydantic's."""

    def validate(value: Any) -> Any:
        try:
            return read(value)
        except SettingsError as error:
            raise PydanticCustomError("settings", "{said}", {"said": str(error).removeprefix("settings: ")}) from error

    return BeforeValidator(validate)


class _Reader(Generic[Settings]):
    """Reads settings from what a form sends: a JSON object as text or parsed, or the location of a file."""

    def __init__(self, kind: type[Settings], empty: object = None) -> None:
        self._kind = kind
        self._empty = empty

    def __call__(self, value: Any) -> Any:
        """Return settings, or the value of an empty field."""
        if value is None:
            return self._empty
        if isinstance(value, dict):
            try:
                return self._kind.model_validate(value)
            except ValidationError as error:
                raise SettingsError(explain(error, self._kind)) from error
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text:
            return self._empty
        return read_settings(self._kind, text if text.startswith("{") else _read_file(text.removeprefix("@")))


def read_advanced(kind: type[Settings]) -> BeforeValidator:
    """Return the reader of the advanced field of a form; an empty field stands for every setting's default.

    A kind that cannot be without settings names the missing ones.
    """
    return reads_with(_Reader(kind, {}))


def read_optional(kind: type[Settings]) -> BeforeValidator:
    """Return the reader of the advanced field of a form; an empty field is None."""
    return reads_with(_Reader(kind))


def read_object(value: Any) -> Any:
    """Return the JSON object of a field, which holds it parsed or as text; an empty field is an object without names.

    Raises:
        SettingsError: the text is not JSON.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise SettingsError(f"{value!r} is not a JSON object: {error}") from error


def _read_engine(value: Any) -> Any:
    """Return an engine by its name or by a JSON object; threads of this process for an empty field."""
    text = value.strip() if isinstance(value, str) else None
    if value is None or text == "":
        return EngineSettings()
    return read_settings(EngineSettings, text) if text and text.startswith("{") else text or value


def _read_file(uri: str) -> bytes:
    """Read a settings file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return read_bytes(normalize_uri(uri))
    except SbertError as error:
        raise SettingsError(
            f"settings {uri!r}: neither a JSON object nor a file that can be read ({error}): write {{...}} or a location"
        ) from error


ANY_JSON = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
"""Text in the form, by the API also an object. A schema with fields would show each setting as a field of its own."""


def advanced_form(command: str, example: str, empty: str = "Empty: the defaults.") -> Any:
    """Describe the advanced field of a form; `sbert settings COMMAND` lists its settings."""
    return form(
        title="Advanced settings",
        description=f"A JSON object, or the location of a file that holds one. {empty} Example: {example}. "
        f"`sbert settings {command}` lists them.",
    )


RefreshSettingsField = Annotated[
    RefreshSettings | None,
    read_optional(AdvancedSettings),
    ANY_JSON,
    form(
        title="Advanced settings",
        description="A JSON object, or the location of a file that holds one. The table keeps settings that are "
        'not named. Example: {"cleaning": {"mask_emails": true}, "concurrency": 4}. `sbert settings refresh` lists them; '
        "model, engine and exclude can be given here, too.",
    ),
]

RawUri = Annotated[
    str,
    location(
        title="Raw text",
        description=f"File, folder or glob of raw text, local or s3://. Readable endings are {READ_ENDINGS}. "
        "Example: s3://company-raw/tickets",
    ),
]
TableUri = Annotated[
    str,
    location(
        title="Table",
        description="Folder of the table, local or s3://; made if it is not there. Example: s3://company-embeddings/tickets",
    ),
]
ExistingTableUri = Annotated[
    str,
    location(
        title="Table",
        description="Folder of the table, local or s3://. Example: s3://company-embeddings/tickets",
    ),
]
Passages = Annotated[
    Literal["", "everything", "documents", "nothing"],
    form(
        title="Passages",
        description="Which texts are cut into passages, one row each: everything (each row is a document), documents "
        "(Markdown, HTML, PDF), or nothing. Empty: the table's own; for a new table documents.",
    ),
]
Text = Annotated[str | None, BeforeValidator(lambda value: value or None), WithJsonSchema({"type": "string"})]
"""Text that may be empty: one field of the form, without a choice between text and nothing."""


def _without_empty_rows(value: Any) -> Any:
    """Return a list without the rows that a person added and left empty; None when no row is left."""
    return ([item for item in value if item != ""] if isinstance(value, list) else value) or None


Names = Annotated[
    list[str] | None,
    BeforeValidator(_without_empty_rows),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
"""A list of names; None when the field is empty."""
Day = Annotated[dt.date | None, BeforeValidator(lambda value: value or None)]
"""A day; None when the field is empty."""
Model = Annotated[
    Text,
    form(
        title="Model",
        description="Sentence encoder: folder, model registry, s3:// URI or hub id. Empty: the table's own; for a new table "
        "the packaged one. Another model re-embeds every row. Example: s3://company-embeddings/models",
    ),
]
Concurrency = Annotated[
    int, form(title="Concurrency", ge=1, le=256, description="Splits to build at the same time (splits).")
]
Explain = Annotated[
    bool,
    form(
        title="Explain",
        description="Add a column that says why the two texts of each pair are near, and what their vectors overlook; "
        "each new pair costs an encoding of both texts.",
    ),
]
DryRun = Annotated[bool, form(title="Dry run", description="Only plan: report what would be done, and write nothing.")]
AllowDrop = Annotated[
    bool,
    form(
        title="Allow drop",
        description="Allow the run to remove any number of rows and source objects, and kept columns of the table.",
    ),
]
EngineChoice = Annotated[
    EngineSettings,
    reads_with(_read_engine),
    ANY_JSON,
    form(
        title="Engine",
        description="Engine that builds splits: local (threads of this process), ray or dask, or a JSON object. Empty: "
        'local. Example: {"kind": "ray", "gpus_per_worker": 1}. `sbert settings engine` lists its fields.',
    ),
]
TrialsAtOnce = Annotated[
    int,
    form(
        title="Trials at once",
        ge=1,
        le=256,
        description="Trials of a search that run at the same time on workers of ray or dask (trials).",
    ),
]
TrialEngine = Annotated[
    EngineSettings,
    reads_with(_read_engine),
    ANY_JSON,
    form(
        title="Engine",
        description="Engine that runs the trials of a search: local (one after the other), ray or dask, or a JSON object. "
        'Empty: local. Example: {"kind": "ray", "gpus_per_worker": 1}. `sbert settings engine` lists its fields.',
    ),
]


def completed(result: R, message: str) -> R:
    """Return the result of a flow as a Completed state with a message.

    Prefect unpacks the state, so the caller of the flow gets the result.
    """
    return cast("R", Completed(message=message, data=result))
