"""Read ``--settings``: a JSON object on the command line, or one in a file or object."""

from typing import TypeVar

from pydantic import BaseModel

from sbert.errors import SettingsError, StorageError

__all__ = ["load_settings"]

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


def _read_file(uri: str) -> str:
    from sbert.storage.files import normalize_uri, read_bytes

    try:
        return read_bytes(normalize_uri(uri)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"--settings @{uri}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except StorageError as error:
        raise SettingsError(f"--settings @{uri}: {error}") from error
