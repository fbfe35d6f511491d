"""Places that hold rows beside the shards of a table, and the registry of all of them.

A place says which files below the table are its own, and how rows go from them. A file that no place owns is named in the
receipt as not erased. To add a folder to tables, write a class with the methods of `Place` (where the folder's own code is)
and add an instance to `PLACES` in `sbert/erase/all_places.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sbert.counted import counted
from sbert.erase.receipt import PlaceReport
from sbert.table.erased_keys import ErasedKeys

__all__ = ["ErasedRows", "FilePlace", "Place"]


@dataclass(frozen=True)
class ErasedRows:
    """The rows to erase, and the hashes and shards that were found for them."""

    keys: ErasedKeys
    text_hashes: frozenset[bytes] = field(default=frozenset())
    """Hashes of the texts of rows that were found in shards, 16 bytes each."""
    shards: frozenset[str] = field(default=frozenset())
    """Names of the shards in which rows were found; these shards are removed."""


class Place(ABC):
    """A kind of files below a table."""

    name: ClassVar[str]
    """Names the place in the receipt."""

    @abstractmethod
    def owns(self, path: str) -> bool:
        """Return whether a file belongs to this place; `path` is relative to the table."""

    @abstractmethod
    def erase(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, *, is_dry_run: bool) -> PlaceReport:
        """Remove rows from the files of this place; with `is_dry_run` only count them.

        The call may be repeated, so a killed run is finished by running again.
        """

    @abstractmethod
    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:
        """Read every file of this place again, and return the report with the rows that are left."""

    def keys_in(self, table_uri: str, paths: Sequence[str], keys: ErasedKeys) -> ErasedKeys:  # noqa: ARG002
        """Return the keys that files of this place name; most places name none."""
        return ErasedKeys()


class FilePlace(Place):
    """A place whose files are searched one by one."""

    verb: ClassVar[str] = "rewritten"
    """Treatment of a file that holds erased rows."""

    @abstractmethod
    def count(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        """Return the number of erased rows that a file holds; 0 for a file that is gone."""

    @abstractmethod
    def clean(self, table_uri: str, path: str, rows: ErasedRows) -> None:
        """Take the erased rows out of a file that holds some."""

    def erase(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, *, is_dry_run: bool) -> PlaceReport:
        """Count the rows in every file, and clean the files that hold some."""
        rows_by_path = self._count_rows(table_uri, paths, rows)
        for path in () if is_dry_run else rows_by_path:
            self.clean(table_uri, path, rows)
        action = (
            f"{counted(len(rows_by_path), 'file')} {'would be ' if is_dry_run else ''}{self.verb}"
            if rows_by_path
            else "nothing to do"
        )
        return PlaceReport(place=self.name, location=table_uri, num_found=sum(rows_by_path.values()), action=action)

    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:
        """Count again."""
        num_left = sum(self._count_rows(table_uri, paths, rows).values())
        return report.model_copy(update={"look": f"{counted(len(paths), 'file')} read", "num_left": num_left})

    def _count_rows(self, table_uri: str, paths: Sequence[str], rows: ErasedRows) -> Mapping[str, int]:
        counts = {path: self.count(table_uri, path, rows) for path in paths}
        return {path: number for path, number in counts.items() if number}
