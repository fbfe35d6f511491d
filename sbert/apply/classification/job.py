"""`ClassificationJob`: the class of every row, by heads that lie beside the output."""

import hashlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from sbert.apply.classification.head import HEADS, Float32, Head
from sbert.apply.classification.multi_label_head import MULTI_LABEL_HEADS
from sbert.apply.classification.multi_label_output import MULTI_LABEL_FIELDS, multi_label_values, ordered_lists
from sbert.apply.classification.words import Texts
from sbert.derived.job import RowFunction, RowJob, row_vectors
from sbert.table.delta import Table

__all__ = ["ClassificationJob", "HeadName"]


FIELDS = (
    pa.field("label", pa.string()),
    pa.field("probability", pa.float32()),
    pa.field("labels", pa.list_(pa.string())),
    pa.field("abstained", pa.bool_()),
)
BY_RULES = pa.field("by_rules", pa.bool_())
Values = Callable[[Float32, Texts | None], dict[str, pa.Array]]
"""Returns the columns of a task for the vectors and texts of a block."""


class HeadName(BaseModel):
    """A head that an output is made by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="Column of the labels that it was fitted on; empty for the label column.")
    fingerprint: str = Field(description="Name of its folder in ``_heads/``.")
    text_column: str = Field(default="", description="Column that its rules are matched with; empty without rules.")
    words_column: str = Field(default="", description="Column whose words it reads; empty for vectors alone.")
    is_multi_label: bool = Field(default=False, description="Whether a row can have several classes.")

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what earlier releases did not have at its default, so that their outputs stay as they are."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name != "is_multi_label" or value}

    @property
    def column(self) -> str:
        """The column of texts that it reads; empty for none."""
        return self.text_column or self.words_column


class ClassificationJob(RowJob):
    """The likeliest class of each row, its probability, a set that holds the true class, and whether to trust it.

    A task whose rows can have several classes gives a list of classes instead (`MULTI_LABEL_FIELDS`).
    """

    name: ClassVar[str] = "classification"

    heads: tuple[HeadName, ...] = Field(min_length=1, description="One head for each task.")
    heads_uri: str = Field(description="The output beside which the heads lie.")

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the columns of each task, and ``by_rules`` where its head has rules.

        With several tasks their names begin with the task.
        """
        fields = []
        for head in self.heads:
            own = [*(MULTI_LABEL_FIELDS if head.is_multi_label else FIELDS), *([BY_RULES] if head.text_column else [])]
            fields += [field.with_name(f"{self.prefix(head)}{field.name}") for field in own]
        return pa.schema(fields)

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
        functions = [(self.prefix(name), name, _values_of(self.heads_uri, name, table)) for name in self.heads]

        def classify(rows: pa.Table) -> pa.Table:
            vectors_ND = row_vectors(rows, table)
            columns: dict[str, pa.Array] = {}
            for prefix, name, values in functions:
                texts = pl.Series(rows[name.column]).cast(pl.String) if name.column else None
                columns |= {f"{prefix}{column}": value for column, value in values(vectors_ND, texts).items()}
            return pa.table(columns)

        return classify


def _values_of(heads_uri: str, name: HeadName, table: Table) -> Values:
    """Load a head, and return the function of a block of rows."""
    if name.is_multi_label:
        several = MULTI_LABEL_HEADS.load(heads_uri, name.fingerprint, table)
        return lambda vectors_ND, texts: multi_label_values(several, vectors_ND, texts)
    head = HEADS.load(heads_uri, name.fingerprint, table)
    return lambda vectors_ND, texts: _values(head, name, vectors_ND, texts)


def _values(head: Head, name: HeadName, vectors_ND: Float32, texts: Texts | None) -> dict[str, pa.Array]:
    probabilities_NC = head.probabilities(vectors_ND, texts)
    best_N = probabilities_NC.argmax(axis=1)
    classes = pa.array(head.classes, pa.string())
    values = {
        "label": classes.take(pa.array(best_N)),
        "probability": pa.array(probabilities_NC[np.arange(len(best_N)), best_N].astype(np.float32)),
        "labels": _sets(head, probabilities_NC, classes),
        "abstained": pa.array(head.abstains(probabilities_NC)),
    }
    if name.text_column:
        silent_NC = head.scores(vectors_ND, texts, with_rules=False)
        values["by_rules"] = pa.array(best_N != silent_NC.argmax(axis=1))
    return values


def _sets(head: Head, probabilities_NC: np.ndarray, classes: pa.Array) -> pa.ListArray:
    """Return the classes of each row's set, the likeliest first."""
    return ordered_lists(head.sets(probabilities_NC), probabilities_NC, classes)[0]
