"""Explain wrong settings: name the field in full, and suggest the names that were probably meant.

Every place that reads settings a person wrote (``--settings``, ``--engine``) says it through `read_settings`.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from sbert.errors import SettingsError

__all__ = ["explain", "problem", "read_settings"]

Settings = TypeVar("Settings", bound=BaseModel)

UNKNOWN = "extra_forbidden"


def read_settings(kind: type[Settings], text: str | bytes) -> Settings:
    """Read settings from a JSON object.

    Raises:
        SettingsError: when they are wrong; it names each field, and for an unknown field the settings with a similar name.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError(explain(error, kind)) from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return the mistakes as one line."""
    return "; ".join(_problem(item, kind) for item in error.errors(include_url=False))


def _problem(item: Any, kind: type[BaseModel]) -> str:
    path: Sequence[int | str] = item["loc"]
    name = ".".join(map(str, path)) or "settings"
    if item["type"] != UNKNOWN:
        return problem(path, item["msg"])
    owners = list(_models_at(kind, path[:-1]))
    fields = list(dict.fromkeys(field for owner in owners for field in owner.model_fields))
    near = difflib.get_close_matches(str(path[-1]), fields, n=3)
    if near:
        return f"{name}: no such setting, did you mean {' or '.join(near)}?"
    within = f"the settings of {'.'.join(map(str, path[:-1]))} are" if len(path) > 1 else "the settings are"
    return f"{name}: no such setting; {within} {', '.join(fields)}"


def problem(path: Sequence[int | str], message: str) -> str:
    """Return the mistake in the field at a path; a message that begins with the field's name names it once."""
    name = ".".join(map(str, path)) or "settings"
    said = message.removeprefix("Value error, ")
    if path and said.startswith(f"{path[-1]} "):
        return f"{name}{said.removeprefix(str(path[-1]))}"
    return f"{name}: {said}"


def _models_at(kind: type[BaseModel], path: Sequence[int | str]) -> Iterator[type[BaseModel]]:
    """Return the settings classes whose fields could be named at a place of nested settings."""
    models = [kind]
    for step in path:
        if isinstance(step, str):
            annotations = [model.model_fields[step].annotation for model in models if step in model.model_fields]
            models = [model for annotation in annotations for model in _models_in(annotation)] or models
    yield from models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
