"""Files of changes: Parquet, JSON Lines, or none. A file appears whole or not at all."""

from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from sbert.errors import SettingsError
from sbert.storage.errors import translate_errors
from sbert.storage.files import OutputFile, open_output
from sbert.storage.json_text import json_text
from sbert.table.shards import columns_with_true_bounds, discard_parquet

__all__ = ["FeedWriter", "open_feed"]


class FeedWriter(Protocol):
    """Takes blocks of changes: the column ``change``, then the table's columns."""

    def write(self, changes: pa.Table) -> None:
        """Append a block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ParquetFeed:
    """Changes as one Parquet file, whole or not there."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        """Begin a file at `uri`."""
        self._uri = uri
        self._output: OutputFile = open_output(uri)
        bounds = columns_with_true_bounds(schema)
        self._writer = pq.ParquetWriter(self._output, schema, compression="zstd", write_statistics=bounds)

    def write(self, changes: pa.Table) -> None:
        """Append a block."""
        with translate_errors(self._uri):
            self._writer.write_table(changes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            discard_parquet(self._writer, self._output)
            return
        with translate_errors(self._uri):
            self._writer.close()
            self._output.close()


class JsonLinesFeed:
    """Changes as JSON Lines: an upsert has all columns, a delete the key. Hashes are hexadecimal, NaN is null."""

    def __init__(self, uri: str) -> None:
        """Begin a file at `uri`."""
        self._output = open_output(uri)

    def write(self, changes: pa.Table) -> None:
        """Append a block."""
        lines = []
        for row in changes.to_pylist():
            if row["change"] == "delete":
                row = {name: row[name] for name in ("change", "source", "id")}  # noqa: PLW2901
            lines.append(json_text(row))
        self._output.write(("\n".join(lines) + "\n").encode() if lines else b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._output.discard()
        else:
            self._output.close()


class CountOnly:
    """Writes nothing."""

    def write(self, changes: pa.Table) -> None:
        """Pass over a block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_feed(output: str | None, schema: pa.Schema) -> FeedWriter:
    """Return the writer of a file, by its ending; without a file, a writer that writes nothing.

    Raises:
        SettingsError: the name has another ending than .parquet, .jsonl or .ndjson.
    """
    if output is None:
        return CountOnly()
    if output.endswith(".parquet"):
        return ParquetFeed(output, schema)
    if output.endswith((".jsonl", ".ndjson")):
        return JsonLinesFeed(output)
    raise SettingsError(f"{output}: changes are written as .parquet or .jsonl: name the file so")
