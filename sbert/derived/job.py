"""The interface of a job whose output is kept in step with an embeddings table.

A job says something about rows: their class, topic, neighbours. It gives its output columns, a fingerprint of everything
that decides the output, and a function that makes the output of one split. `RowJob` is the common case, in which each row
is looked at by itself.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from sbert.errors import SettingsError, TableError
from sbert.table.delta import Table
from sbert.table.shard_layout import read_split
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.table_shard import TableShard

__all__ = [
    "KEY_COLUMNS",
    "DerivedJob",
    "RowFunction",
    "RowJob",
    "SplitFunction",
    "SplitInput",
    "TableJob",
    "derived_fingerprint",
    "row_vectors",
]

KEY_COLUMNS = ("source", "id", "text_hash")
"""Columns that every derived table has: the row's key, and the hash of the text that its output is of."""


def derived_fingerprint(split: str, num_rows: int, job_fingerprint: str) -> str:
    """Return the fingerprint that the shards of a split have in a derived table.

    The number of rows counts too: a split that lost rows to a later split with the same ids keeps its own fingerprint.
    """
    return hashlib.sha256(f"{split}|{num_rows}|{job_fingerprint}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class SplitInput:
    """One split of a version of the embeddings table."""

    table: Table
    shards: tuple[TableShard, ...]
    """The shards that hold rows of the split, with the places of all splits filled in."""
    fingerprint: str
    num_rows: int

    def rows(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read the split's rows in blocks, in their order."""
        return read_split(self.table.uri, self.shards, self.fingerprint, columns)


SplitFunction = Callable[[SplitInput], Iterator[pa.Table]]
"""Returns the output of a split in blocks: `KEY_COLUMNS`, then the job's columns, a row for each row of the split."""


RowFunction = Callable[[pa.Table], pa.Table]
"""Returns the job's columns for a block of rows: as many rows, in the same order."""


def row_vectors(rows: pa.Table, table: Table) -> npt.NDArray[np.float32]:
    """Return the vectors of rows as a float32 matrix of shape (rows, dim), whatever precision the table stores.

    Args:
        rows: a block with the columns that `RowJob.input_columns` returns by default.
        table: the embeddings table.
    """
    return vector_matrix(rows, table.encoder.dim, table.encoder.precision)


class TableJob(BaseModel, ABC):
    """A job's settings, and the identity of its output. Frozen: a worker in another process gets a copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """Names the job in metadata and messages."""
    code_version: ClassVar[int] = 1
    """Part of the fingerprint. Raise it when the code changes so that the same rows get another output."""

    @abstractmethod
    def columns(self, table: Table) -> pa.Schema:
        """Return the output columns that the job makes."""

    def check(self, table: Table) -> None:
        """Check, before any work, that the job can be done on a table; by default it can.

        Raises:
            SettingsError: the table lacks something that the job needs, or the job is defined wrongly.
        """

    def fingerprint(self, table: Table) -> str:
        """Return a hash of everything that decides the output beside the rows that it is made of.

        By default the hash covers name, settings, `code_version`, `inputs` and the encoder. A job whose output also
        depends on rows outside the split adds those.
        """
        parts = [self.name, self.model_dump_json(), str(self.code_version), *self.inputs(), table.encoder.fingerprint]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def inputs(self) -> list[str]:
        """Return hashes of the job's inputs beside the table, such as a file of labels or a head; by default none."""
        return []


class DerivedJob(TableJob):
    """A job that says something about each row; its `columns` stand beside `KEY_COLUMNS`."""

    def check(self, table: Table) -> None:
        """Check also that the output columns are valid.

        Raises:
            SettingsError: a column has the name of a key.
        """
        super().check(table)
        clash = sorted(set(self.columns(table).names) & set(KEY_COLUMNS))
        if clash:
            raise SettingsError(
                f"{self.name}: columns() names {', '.join(clash)}, but every derived table has that already: leave it out"
            )

    @abstractmethod
    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Load models and inputs, once for each worker process, and return the function of one split.

        Args:
            table: the version that is worked on.
            out_uri: the derived table, whose newest version may hold results that are still true.
        """


class RowJob(DerivedJob):
    """A job that looks at each row by itself."""

    def input_columns(self, table: Table) -> list[str]:
        """Return the columns of the embeddings table that the function gets beside `KEY_COLUMNS`.

        By default these are the columns of the vectors, which `row_vectors` reads.
        """
        return vector_names(table.encoder.precision)

    @abstractmethod
    def function(self, table: Table) -> RowFunction:
        """Load models and inputs, and return the function of a block of up to 16,384 rows.

        The function is called by several threads at the same time when the concurrency is above 1.
        """

    def check(self, table: Table) -> None:
        """Check also that the table has the input columns."""
        super().check(table)
        lacking = [name for name in self.input_columns(table) if name not in table.arrow_schema.names]
        if lacking:
            raise SettingsError(
                f"{table.uri}: the job {self.name} reads the columns {', '.join(lacking)}, the table has "
                f"{', '.join(table.arrow_schema.names)}: add them with `sbert refresh --keep-columns`"
            )

    def open(self, table: Table, out_uri: str) -> SplitFunction:  # noqa: ARG002
        """Apply the function to each block of a split."""
        function = self.function(table)
        wanted = list(dict.fromkeys([*KEY_COLUMNS, *self.input_columns(table)]))
        schema = self.columns(table)

        def derive(split: SplitInput) -> Iterator[pa.Table]:
            for rows in split.rows(wanted):
                output = self._checked(function(rows), schema, len(rows))
                keys = [rows[name] for name in KEY_COLUMNS]
                yield pa.Table.from_arrays([*keys, *output.columns], names=[*KEY_COLUMNS, *schema.names])

        return derive

    def _checked(self, output: pa.Table, schema: pa.Schema, num_rows: int) -> pa.Table:
        """Return the output with its columns in the order of `schema`.

        Raises:
            TableError: the function returned other columns, or another number of rows.
        """
        if set(output.schema.names) != set(schema.names):
            raise TableError(
                f"{self.name}: function() returned the columns {', '.join(output.schema.names)}, columns() names "
                f"{', '.join(schema.names)}: make them equal"
            )
        if len(output) != num_rows:
            raise TableError(
                f"{self.name}: function() returned {len(output)} rows for a block of {num_rows}: return one for each row"
            )
        return output.select(schema.names)
