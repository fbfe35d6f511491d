"""Recognise folders of tables (Delta Lake, Iceberg, Hudi), whose files are not all rows of the table.

A table keeps files that its newest version has removed. Reading all files would bring deleted and outdated rows back.
"""

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from sbert.errors import SourceError
from sbert.source.lake_tables import delta, iceberg
from sbert.source.objects import SourceObject
from sbert.storage.files import join, list_names

__all__ = ["TableFolder", "is_hidden", "is_table", "refuse_other_tables", "table_above", "tables_in"]

MARKS = {
    delta.KIND: (f"/{delta.LOG_FOLDER}", re.compile(rf"(?P<table>.*)/{delta.LOG_FOLDER}(/.*)?")),
    iceberg.KIND: (
        f"/{iceberg.METADATA_FOLDER}/",
        re.compile(rf"(?P<table>.*)/{iceberg.METADATA_FOLDER}/([^/]+\.metadata\.json(\.gz)?|version-hint\.text)"),
    ),
}
"""Paths by which a folder is known as a table that can be read: a part that each of them has, and their pattern."""
HUDI = re.compile(r"(?P<table>.*)/\.hoodie/.+")


class TableFolder(NamedTuple):
    """A table, as a listing finds it."""

    path: str
    """Its folder, or its metadata file, without the protocol."""
    kind: str

    def files(self, protocol: str) -> list[SourceObject]:
        """Return the files of the table's newest version.

        Raises:
            SourceError, StorageError: as the reader of the table's kind does.
        """
        read = delta.delta_files if self.kind == delta.KIND else iceberg.iceberg_files
        return read(protocol + self.path)


def is_hidden(path: str, root: str) -> bool:
    """Return whether a name below the root begins with ``.`` or ``_``, so that nobody reads it."""
    below = path[len(root) :] if path.startswith(root) else path
    return below.startswith((".", "_")) or "/." in below or "/_" in below  # called for every object


def is_table(uri: str) -> str | None:
    """Return the kind of the table that a folder is; None for other folders. Two small listings."""
    if list_names(join(uri, delta.LOG_FOLDER)):
        return delta.KIND
    names = list_names(join(uri, iceberg.METADATA_FOLDER))
    return iceberg.KIND if any(name.endswith(iceberg.METADATA_ENDINGS) for name in names) else None


def table_above(uri: str) -> tuple[str, str] | None:
    """Return location and kind of the table that a folder is, or is a partition (``lang=en``) of; None for others."""
    folder = uri
    while (kind := is_table(folder)) is None:
        if "=" not in (name := posixpath.basename(folder)) and name != "data":
            return None
        folder = posixpath.dirname(folder)
    return folder, kind


def tables_in(paths: Iterable[str], root: str) -> list[TableFolder]:
    """Return the tables below the root; tables within tables and in hidden folders left out."""
    kind_of_folder: dict[str, str] = {}
    for path in paths:
        for kind, (part, mark) in MARKS.items():
            match = mark.fullmatch(path) if part in path else None
            if (
                match and kind_of_folder.get(match["table"]) != delta.KIND
            ):  # a Delta table may be readable as Iceberg too
                kind_of_folder[match["table"]] = kind
    tables: list[TableFolder] = []
    for folder in sorted(folder for folder in kind_of_folder if not is_hidden(folder, root)):
        if not any(folder.startswith(f"{outer.path}/") for outer in tables):
            tables.append(TableFolder(folder, kind_of_folder[folder]))
    return tables


def refuse_other_tables(protocol: str, root: str, paths: Iterable[str]) -> None:
    """Raise when a listed folder is a table that cannot be read.

    Raises:
        SourceError: naming the folder and the table format.
    """
    for path in paths:
        match = HUDI.fullmatch(path) if "/.hoodie/" in path else None
        if match and not is_hidden(match["table"], root):
            raise SourceError(
                f"{protocol}{match['table']}: is a table of Hudi, which also keeps files of rows that were removed from it: "
                "export its rows to a folder of Parquet files and read that"
            )
