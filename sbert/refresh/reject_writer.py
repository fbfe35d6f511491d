"""Write the rejected rows of a split as one Parquet file, a block at a time."""

from typing import Self

import polars as pl
import pyarrow.parquet as pq

from sbert.storage.errors import translate_errors
from sbert.storage.files import OutputFile, open_output
from sbert.table.shards import discard_parquet

__all__ = ["RejectWriter"]


class RejectWriter:
    """A Parquet file of rejected rows. It is created with the first row, and it is complete or not there."""

    def __init__(self, uri: str) -> None:
        """Prepare to write to `uri`."""
        self._uri = uri
        self._output: OutputFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()

    def write(self, rejects: pl.DataFrame) -> None:
        """Append rejected rows (columns of `REJECT_SCHEMA`)."""
        if not rejects.height:
            return
        table = rejects.to_arrow(compat_level=pl.CompatLevel.oldest())
        with translate_errors(self._uri):
            if self._writer is None:
                self._output = open_output(self._uri)
                self._writer = pq.ParquetWriter(self._output, table.schema, compression="zstd")
            self._writer.write_table(table)

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self._writer is not None:
            assert self._output is not None
            with translate_errors(self._uri):
                self._writer.close()
                self._output.close()
            self._writer = self._output = None

    def discard(self) -> None:
        """Remove the file that was written."""
        discard_parquet(self._writer, self._output)
        self._writer = self._output = None
