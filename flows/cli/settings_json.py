"""Read ``--settings``: a JSON object on the command line, or one in a file or object."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from sbert.errors import SettingsError, StorageError

__all__ = ["load_named", "load_settings"]

Settings = TypeVar("Settings", bound=BaseModel)


def load_settings(text: str | None, kind: type[Settings]) -> Settings:
    """Return settings from a JSON object, from ``@file.json`` or from ``@s3://…``; the defaults when there are none.

    Raises:
        SettingsError: the file cannot be read, or a setting is wrong.
    """
    if text is None:
        return kind()
    from sbert.settings import read_settings

    return read_settings(kind, _read_file(text[1:]) if text.startswith("@") else text)


def load_named(text: str | None, kind: type[Settings], named: dict[str, Any]) -> Settings:
    """Return settings as `load_settings` does, completed by options of their own; None is an option that is not given.

    Raises:
        SettingsError: the file cannot be read, or a setting is wrong.
    """
    from sbert.settings import read_settings

    given = (_read_file(text[1:]) if text.startswith("@") else text) if text is not None else "{}"
    try:
        values = json.loads(given)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return read_settings(kind, given)  # says what is wrong
    return read_settings(
        kind, json.dumps({**values, **{name: value for name, value in named.items() if value is not None}})
    )


def _read_file(uri: str) -> str:
    from sbert.storage.files import normalize_uri, read_bytes

    try:
        return read_bytes(normalize_uri(uri)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"--settings @{uri}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except StorageError as error:
        raise SettingsError(f"--settings @{uri}: {error}") from error
