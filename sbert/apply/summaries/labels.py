"""Summaries that people wrote: rows of a document's id and a summary."""

import hashlib
from dataclasses import dataclass

import polars as pl

from sbert.apply.summaries.settings import LabelColumns
from sbert.errors import LabelError
from sbert.labels.label_files import as_texts
from sbert.labels.label_records import read_label_object
from sbert.labels.load import list_label_objects
from sbert.labels.settings import LabelSettings
from sbert.source.formats.base import missing_column

__all__ = ["SummaryLabels", "read_summaries"]


@dataclass(frozen=True)
class SummaryLabels:
    """The summaries of each document."""

    uri: str
    references: dict[str, tuple[str, ...]]
    """Summaries by the document's id, in alphabetical order. A document with several summaries has several references."""
    num_rows: int
    num_incomplete: int
    """Rows without a document or without a summary."""
    num_repeated: int
    """Rows that say what another row says."""

    @property
    def num_several(self) -> int:
        """Documents with more than one summary."""
        return sum(len(summaries) > 1 for summaries in self.references.values())

    @property
    def fingerprint(self) -> str:
        """Return a hash of all documents and summaries, whatever their order and files."""
        return hashlib.sha256(repr(sorted(self.references.items())).encode("utf-8", "surrogatepass")).hexdigest()


def read_summaries(uri: str, columns: LabelColumns) -> SummaryLabels:
    """Read the labels under a file, folder or glob.

    Raises:
        MissingError, EmptySourceError, StorageError: there is nothing, or storage refuses.
        ColumnError: an object lacks one of the columns.
        BrokenObjectError: an object cannot be read to its end.
        LabelError: no row has both a document and a summary.
    """
    frames = []
    for item in list_label_objects(uri):
        raw = read_label_object(item, LabelSettings())
        if not raw.height:
            continue
        for name in (columns.document, columns.summary):
            if name not in raw.columns:
                raise missing_column(item.uri, name, raw.columns, takes_templates=False)
        texts = [as_texts(raw, name, item.uri).str.strip_chars() for name in (columns.document, columns.summary)]
        frames.append(pl.DataFrame(texts, schema=["document", "summary"]))
    rows = pl.concat(frames) if frames else pl.DataFrame(schema={"document": pl.String, "summary": pl.String})
    complete = rows.filter(pl.all_horizontal(pl.all().fill_null("") != ""))
    different = complete.unique().sort("document", "summary")
    if different.is_empty():
        raise LabelError(
            f"{uri}: {rows.height:,} rows, and none has both a document and a summary: name the columns in columns.document "
            "and columns.summary"
        )
    grouped = different.group_by("document", maintain_order=True).agg("summary")
    return SummaryLabels(
        uri=uri,
        references={name: tuple(summaries) for name, summaries in grouped.iter_rows()},
        num_rows=rows.height,
        num_incomplete=rows.height - complete.height,
        num_repeated=complete.height - different.height,
    )
