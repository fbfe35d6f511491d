"""Recognise folders of table formats, whose files are not all rows of the table.

A table of Delta Lake, Iceberg or Hudi keeps files that its newest version has removed. Reading all files would bring deleted
and outdated rows back.
"""

import posixpath
import re
from collections.abc import Iterable

from sbert.errors import SourceError
from sbert.storage.files import filesystem

__all__ = ["refuse_inside_table", "refuse_table_folders"]

MARKS = (
    ("Delta Lake", re.compile(r"(?P<table>.*)/_delta_log/[^/]+\.(json|parquet|crc)")),
    ("Iceberg", re.compile(r"(?P<table>.*)/metadata/([^/]+\.metadata\.json(\.gz)?|version-hint\.text)")),
    ("Hudi", re.compile(r"(?P<table>.*)/\.hoodie/.+")),
)
"""Files by which a folder is known as a table, as paths."""


def refuse_table_folders(protocol: str, root: str, paths: Iterable[str]) -> None:
    """Raise when a listed folder is a table; folders whose name begins with ``.`` or ``_`` are not read anyway.

    Raises:
        SourceError: naming the folder and the table format.
    """
    for path in paths:
        for name, mark in MARKS:
            match = mark.fullmatch(path)
            below = match["table"][len(root) :] if match else ""
            if match and not any(part.startswith((".", "_")) for part in below.split("/")):
                raise _refusal(protocol + match["table"], name)


def refuse_inside_table(uri: str, folder: str) -> None:
    """Raise when `folder` holds the log of a Delta table, or is a partition (``lang=en``) of a table that does.

    Raises:
        SourceError: naming the table.
    """
    folders = [folder]
    while "=" in posixpath.basename(folders[-1]):
        folders.append(posixpath.dirname(folders[-1]))
    for table in folders:
        if filesystem(uri).exists(f"{table}/_delta_log"):
            raise _refusal(f"{uri.split('://', 1)[0]}://{table}" if "://" in uri else table, "Delta Lake")


def _refusal(table: str, name: str) -> SourceError:
    return SourceError(
        f"{table}: is a table of {name}, which also keeps files of rows that were removed from it: export its rows to a "
        "folder of Parquet files and read that"
    )
