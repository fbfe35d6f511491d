"""Recognise folders of tables (Delta Lake, Iceberg, Hudi), whose files are not all rows of the table.

A table keeps files that its newest version has removed. Reading all files would bring deleted and outdated rows back.
"""

import posixpath
import re
from collections.abc import Iterable

from sbert.errors import SourceError
from sbert.source.tables.delta import LOG_FOLDER
from sbert.storage.files import join, list_names

__all__ = ["has_delta_log", "is_hidden", "refuse_other_tables", "table_above", "tables_in"]

LOG = re.compile(rf"(?P<table>.*)/{LOG_FOLDER}(/.*)?")
OTHERS = (
    ("Iceberg", re.compile(r"(?P<table>.*)/metadata/([^/]+\.metadata\.json(\.gz)?|version-hint\.text)")),
    ("Hudi", re.compile(r"(?P<table>.*)/\.hoodie/.+")),
)
"""Files by which a folder is known as a table that cannot be read."""


def is_hidden(path: str, root: str) -> bool:
    """Return whether a name below the root begins with ``.`` or ``_``, so that nobody reads it."""
    below = path[len(root) :] if path.startswith(root) else path
    return any(part.startswith((".", "_")) for part in below.split("/"))


def has_delta_log(uri: str) -> bool:
    """Return whether a folder is a table of Delta Lake; one small listing."""
    return bool(list_names(join(uri, LOG_FOLDER)))


def table_above(uri: str) -> str | None:
    """Return the table of Delta Lake that a folder is, or is a partition (``lang=en``) of; None for other folders."""
    folder = uri
    while not has_delta_log(folder):
        if "=" not in posixpath.basename(folder):
            return None
        folder = posixpath.dirname(folder)
    return folder


def tables_in(paths: Iterable[str], root: str) -> list[str]:
    """Return the folders below the root that have the log of a Delta table, as paths; tables within tables left out."""
    found = {match["table"] for match in map(LOG.fullmatch, paths) if match}
    tables: list[str] = []
    for folder in sorted(folder for folder in found if not is_hidden(folder, root)):
        if not any(folder.startswith(f"{outer}/") for outer in tables):
            tables.append(folder)
    return tables


def refuse_other_tables(protocol: str, root: str, paths: Iterable[str]) -> None:
    """Raise when a listed folder is a table that cannot be read.

    Raises:
        SourceError: naming the folder and the table format.
    """
    for path in paths:
        for name, mark in OTHERS:
            match = mark.fullmatch(path)
            if match and not is_hidden(match["table"], root):
                raise SourceError(
                    f"{protocol}{match['table']}: is a table of {name}, which also keeps files of rows that were removed "
                    "from it: export its rows to a folder of Parquet files and read that"
                )
