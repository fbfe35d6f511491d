"""Pages and summaries beside a derived table. They quote texts, so the first erased row removes them.

The next run of the job writes them again, from the rows that are there then.
"""

from sbert.counted import counted
from sbert.erase.receipt import PlaceReport
from sbert.storage.files import delete, join, list_names

__all__ = ["REPORTS_FOLDER", "erase_reports"]

REPORTS_FOLDER = "_reports"


def erase_reports(uri: str, *, has_erased_rows: bool, is_dry_run: bool) -> PlaceReport | None:
    """Remove the files of a derived table's reports when rows of it are erased; None when there is nothing to do.

    Args:
        uri: the derived table.
        has_erased_rows: whether the erasure found rows in it.
        is_dry_run: only count.

    Raises:
        StorageError: storage refuses.
    """
    folder = join(uri, REPORTS_FOLDER)
    names = [name for name, num_bytes in list_names(folder).items() if num_bytes]
    if not names or not has_erased_rows:
        return None
    if not is_dry_run:
        delete([join(folder, name) for name in names])
    left = [name for name, num_bytes in list_names(folder).items() if num_bytes]
    would = "would be " if is_dry_run else ""
    removed = f"{counted(len(names), 'file')} {would}removed; the next run of the job writes them"
    return PlaceReport(
        place="reports of a derived table",
        location=folder,
        num_found=0,
        action=removed,
        look="" if is_dry_run else f"{counted(len(left), 'file')} there",
        problem="" if is_dry_run or not left else f"{counted(len(left), 'file')} were written meanwhile: run again",
    )
