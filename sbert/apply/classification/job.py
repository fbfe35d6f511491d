"""`ClassificationJob`: the class of every row, by heads that lie beside the output."""

import hashlib
from typing import ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.head import HEADS, Head
from sbert.derived.job import RowFunction, RowJob, row_vectors
from sbert.table.delta import Table

__all__ = ["ClassificationJob", "HeadName"]


class HeadName(BaseModel):
    """A head that an output is made by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="Column of the labels that it was fitted on; empty for the label column.")
    fingerprint: str = Field(description="Name of its folder in ``_heads/``.")
    text_column: str = Field(default="", description="Column that its rules are matched with; empty without rules.")
    words_column: str = Field(default="", description="Column whose words it reads; empty for vectors alone.")


class ClassificationJob(RowJob):
    """The likeliest class of each row, its probability, a set that holds the true class, and whether to trust it."""

    name: ClassVar[str] = "classification"

    heads: tuple[HeadName, ...] = Field(min_length=1, description="One head for each task.")
    heads_uri: str = Field(description="The output beside which the heads lie.")

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return four columns for each task, and ``by_rules`` where its head has rules.

        With several tasks their names begin with the task.
        """
        return pa.schema(
            [
                field
                for head in self.heads
                for field in (
                    pa.field(f"{self.prefix(head)}label", pa.string()),
                    pa.field(f"{self.prefix(head)}probability", pa.float32()),
                    pa.field(f"{self.prefix(head)}labels", pa.list_(pa.string())),
                    pa.field(f"{self.prefix(head)}abstained", pa.bool_()),
                    *([pa.field(f"{self.prefix(head)}by_rules", pa.bool_())] if head.text_column else []),
                )
            ]
        )

    def input_columns(self, table: Table) -> list[str]:
        """Return the columns of the vectors, and the texts that rules are matched with or whose words are read."""
        texts = [column for head in self.heads for column in (head.text_column, head.words_column) if column]
        return list(dict.fromkeys([*super().input_columns(table), *texts]))

    def prefix(self, head: HeadName) -> str:
        """Return the prefix of the names of a task's columns."""
        return f"{head.task}_" if len(self.heads) > 1 else ""

    def fingerprint(self, table: Table) -> str:
        """Hash the heads and the encoder. Where the heads lie does not matter: a folder can be moved."""
        names = [f"{head.task}:{head.fingerprint}" for head in self.heads]
        parts = [self.name, str(self.code_version), *names, table.encoder.fingerprint]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def function(self, table: Table) -> RowFunction:
        """Load the heads, and return the function of a block."""
        heads = [(self.prefix(name), name, HEADS.load(self.heads_uri, name.fingerprint, table)) for name in self.heads]

        def classify(rows: pa.Table) -> pa.Table:
            vectors_ND = row_vectors(rows, table)
            columns = {}
            for prefix, name, head in heads:
                column = name.text_column or name.words_column  # a head has one column of texts
                texts = pl.Series(rows[column]).cast(pl.String) if column else None
                probabilities_NC = head.probabilities(vectors_ND, texts)
                best_N = probabilities_NC.argmax(axis=1)
                classes = pa.array(head.classes, pa.string())
                columns[f"{prefix}label"] = classes.take(pa.array(best_N))
                columns[f"{prefix}probability"] = pa.array(
                    probabilities_NC[np.arange(len(best_N)), best_N].astype(np.float32)
                )
                columns[f"{prefix}labels"] = _sets(head, probabilities_NC, classes)
                columns[f"{prefix}abstained"] = pa.array(head.abstains(probabilities_NC))
                if name.text_column:
                    silent_NC = head.scores(vectors_ND, texts, with_rules=False)
                    columns[f"{prefix}by_rules"] = pa.array(best_N != silent_NC.argmax(axis=1))
            return pa.table(columns)

        return classify


def _sets(head: Head, probabilities_NC: np.ndarray, classes: pa.Array) -> pa.ListArray:
    """Return the classes of each row's set, the likeliest first."""
    chosen_NC = head.sets(probabilities_NC)
    order_NC = np.argsort(-probabilities_NC, axis=1, kind="stable")
    ordered_NC = np.take_along_axis(chosen_NC, order_NC, axis=1)
    offsets = np.concatenate([[0], np.cumsum(ordered_NC.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), classes.take(pa.array(order_NC[ordered_NC])))
