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

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from sbert.table.delta import Table, TableShard
from sbert.table.shard_layout import read_split

__all__ = ["KEY_COLUMNS", "DerivedJob", "RowJob", "SplitFunction", "SplitInput", "derived_fingerprint"]

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


class DerivedJob(BaseModel, ABC):
    """A job's settings, and what it does. Frozen: a worker in another process gets a copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """Names the job in metadata and messages."""

    @abstractmethod
    def columns(self, table: Table) -> pa.Schema:
        """Return the output columns beside `KEY_COLUMNS`.

        Raises:
            SettingsError: the table lacks something that the job needs.
        """

    def fingerprint(self, table: Table) -> str:
        """Return a hash of everything that decides the output beside the rows of a split: here settings and encoder.

        A job whose output also depends on rows outside the split adds those to its fingerprint.
        """
        settings = f"{self.name}|{self.model_dump_json()}|{table.encoder.fingerprint}"
        return hashlib.sha256(settings.encode()).hexdigest()

    @abstractmethod
    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Load what the work needs, once for each worker process, and return the function that does a split.

        Args:
            table: the version that is worked on.
            out_uri: the derived table, whose newest version may hold results that are still true.
        """


class RowJob(DerivedJob):
    """A job that looks at each row by itself."""

    @abstractmethod
    def input_columns(self, table: Table) -> list[str]:
        """Return the columns of the embeddings table that the function needs beside `KEY_COLUMNS`."""

    @abstractmethod
    def function(self, table: Table) -> Callable[[pa.Table], pa.Table]:
        """Load what the work needs, and return a function from a block of rows to the same number of output rows."""

    def open(self, table: Table, out_uri: str) -> SplitFunction:  # noqa: ARG002
        """Apply the function to each block of a split."""
        function = self.function(table)
        wanted = list(dict.fromkeys([*KEY_COLUMNS, *self.input_columns(table)]))
        schema = self.columns(table)

        def derive(split: SplitInput) -> Iterator[pa.Table]:
            for rows in split.rows(wanted):
                output = function(rows).select(schema.names)
                assert len(output) == len(rows), f"{self.name}: {len(output)} rows of output for {len(rows)} rows"
                keys = [rows[name] for name in KEY_COLUMNS]
                yield pa.Table.from_arrays([*keys, *output.columns], names=[*KEY_COLUMNS, *schema.names])

        return derive
