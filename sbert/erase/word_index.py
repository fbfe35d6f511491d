"""The word index: hashed words of every row that it holds. It is removed whole; the next run builds it without the rows."""

from collections.abc import Sequence
from typing import ClassVar

from sbert.counted import counted
from sbert.erase.places import ErasedRows, Place
from sbert.erase.receipt import PlaceReport
from sbert.index.segment_cache import forget_segment
from sbert.storage.files import delete, join
from sbert.table.word_segments import WORDS_FOLDER

__all__ = ["WordIndex"]


class WordIndex(Place):
    """Segments of the word index and their records."""

    name: ClassVar[str] = "word index"

    def owns(self, path: str) -> bool:
        """Return whether a file belongs to the word index."""
        return path.startswith(f"{WORDS_FOLDER}/")

    def erase(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, *, is_dry_run: bool) -> PlaceReport:  # noqa: ARG002
        """Remove all segments, their records first. Searches read the texts until `sbert index-words` has run."""
        report = PlaceReport(place=self.name, location=table_uri)
        if not paths:
            return report
        if not is_dry_run:
            delete(join(table_uri, path) for path in sorted(paths))  # a record's name sorts before its file's
            for path in paths:
                forget_segment(join(table_uri, WORDS_FOLDER), path.rsplit("/", 1)[-1])
        verb = "would be removed" if is_dry_run else "removed"
        return report.model_copy(
            update={"action": f"{counted(len(paths), 'file')} {verb}: `sbert index-words` builds them again"}
        )

    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:  # noqa: ARG002
        """Count the files that are left, which a run built meanwhile."""
        problem = (
            f"{counted(len(paths), 'file')} written by a run at work: erase again when it has ended" if paths else ""
        )
        return report.model_copy(update={"look": f"{counted(len(paths), 'file')}", "problem": problem})
