"""Which labelled texts are rows of the table, and which group their rows belong to.

A look-up reads the text hashes of the table, 16 bytes a row, but no vectors.
"""

from collections.abc import Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.text_rows import rows_of_texts
from sbert.counted import counted
from sbert.labels.label_set import LabelSet
from sbert.table.delta import Table

__all__ = ["LabelledTexts", "LabelsInTable"]


class LabelsInTable(BaseModel):
    """How many labelled texts are rows of the table."""

    model_config = ConfigDict(frozen=True)

    num_texts: int = Field(description="Labelled texts that differ, held-out ones too.")
    num_found: int = Field(description="Those that are in the table.")
    table_version: int = Field(description="Version of the table in which they were counted.")

    def told(self) -> str:
        """Return the count in words, such as ``152 of 171 labelled texts are in version 3 of the table``.

        A night without new labels counts nothing, so the version may be an earlier one.
        """
        are = "is" if self.num_texts == 1 else "are"
        return (
            f"{self.num_found:,} of {counted(self.num_texts, 'labelled text')} {are} in version {self.table_version} of the "
            "table"
        )

    def warning(self, labels_uri: str, table_uri: str) -> str:
        """Return a warning that names labels and table where no text is in the table; empty otherwise."""
        if self.num_found or not self.num_texts:
            return ""
        return (
            f"None of {counted(self.num_texts, 'labelled text')} of {labels_uri} is in the table {table_uri}: if they "
            "should be, name the labels of this table"
        )


class LabelledTexts:
    """Looks labelled texts up in the table, each once for all tasks."""

    def __init__(self, table: Table, columns: Sequence[str] = ()) -> None:
        """Name the columns of the table whose values are groups."""
        self._table = table
        self._columns = list(columns)
        self._known: pl.DataFrame | None = None

    def in_table(self, labels: LabelSet) -> LabelsInTable:
        """Count the labelled texts that are in the table."""
        texts = pl.concat([labels.train["text"], labels.dev["text"], labels.test["text"]]).unique(maintain_order=True)
        num_found = int(self._rows(texts)["is found"].sum())
        return LabelsInTable(num_texts=len(texts), num_found=num_found, table_version=self._table.version)

    def groups(self, texts: pl.Series, column: str) -> pl.Series:
        """Return the group of each text: null for a text that the table lacks, empty where its row has no value."""
        return self._rows(texts)[f"of {column}"].alias(column)

    def _rows(self, texts: pl.Series) -> pl.DataFrame:
        """Return a row for each text, in their order."""
        new = texts.unique(maintain_order=True)
        if self._known is not None:
            new = new.filter(~new.is_in(self._known["text"].implode()))
        if self._known is None or len(new):
            found = rows_of_texts(self._table, new.to_list(), self._columns)
            values = [found.values[column].alias(f"of {column}") for column in self._columns]
            rows = pl.DataFrame([new.alias("text"), found.is_found.alias("is found"), *values])
            self._known = rows if self._known is None else pl.concat([self._known, rows])
        return texts.alias("text").to_frame().join(self._known, on="text", how="left", maintain_order="left")
