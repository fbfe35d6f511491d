"""Pages and summaries beside a derived table. They quote texts, so the first erased row removes them.

The next run of the job writes them again, from the rows that are there then. It cannot write again what people were told and
what they decided. These records quote no text, and are kept as long as no erased id stands in them.
"""

import json
import re
from collections.abc import Iterator, Sequence

from sbert.counted import counted
from sbert.erase.places import ErasedRows
from sbert.erase.receipt import PlaceReport
from sbert.errors import MissingError
from sbert.storage.files import delete, join, list_names, read_bytes

__all__ = ["REPORTS_FOLDER", "erase_reports"]

REPORTS_FOLDER = "_reports"
RECORDS_OF_PEOPLE = frozenset({"alerts.json"})
"""Files that only people's answers can make again, and that hold no text of a row: the alerts of `sbert monitor`."""
SENTENCES = "sentences"
"""The part of these records that holds a sentence by its key."""


def erase_reports(uri: str, rows: ErasedRows, *, has_erased_rows: bool, is_dry_run: bool) -> PlaceReport | None:
    """Remove the files of a derived table's reports when rows of it are erased; None when there is nothing to do.

    Args:
        uri: the derived table.
        rows: what is erased.
        has_erased_rows: whether the erasure found rows in it.
        is_dry_run: only count.

    Raises:
        StorageError: storage refuses.
    """
    folder = join(uri, REPORTS_FOLDER)
    files = _files(folder)
    if not files or not has_erased_rows:
        return None
    names = [name for name in files if not _is_kept(folder, name, rows)]
    if not is_dry_run:
        delete([join(folder, name) for name in names])
    left = [] if is_dry_run else [name for name in _files(folder) if not _is_kept(folder, name, rows)]
    num_kept = len(files) - len(names)
    would = "would be " if is_dry_run else ""
    actions = []
    if names:
        actions.append(f"{counted(len(names), 'file')} {would}removed; the next run of the job writes them")
    if num_kept:
        actions.append(f"{counted(num_kept, 'record')} of alerts {would}kept: no text, and none of the ids, is in it")
    return PlaceReport(
        place="reports of a derived table",
        location=folder,
        num_found=0,
        action="; ".join(actions),
        look="" if is_dry_run else f"{counted(len(left), 'file')} left",
        problem="" if not left else f"{counted(len(left), 'file')} written meanwhile: run again",
    )


def _files(folder: str) -> Sequence[str]:
    return [name for name, num_bytes in list_names(folder).items() if num_bytes]


def _is_kept(folder: str, name: str, rows: ErasedRows) -> bool:
    """Return whether a file is a record of people in which no erased id stands as a word."""
    if name not in RECORDS_OF_PEOPLE:
        return False
    names = "|".join(map(re.escape, sorted(rows.keys.names)))
    words = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
    try:
        record = json.loads(read_bytes(join(folder, name)))
    except (MissingError, ValueError):
        return False
    return not any(words.search(text) for text in _texts(record))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts of a JSON value, names included, but not sentences: they repeat these texts, with numbers that may
    look like an id."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from item if name == SENTENCES else _texts(item)
