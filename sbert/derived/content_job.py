"""A job whose output for a row depends on some content of this row alone, such as its text: nothing is computed twice.

`RowJob` computes a split anew when a row of it changed. That is right for a matrix product, and wrong where each row costs a
pass through a transformer. A `ContentJob` writes a hash of each row's content beside its output. When splits change, it
reads the outputs of the splits that leave, and only computes rows whose content is not among them.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock

import polars as pl
import pyarrow as pa

from sbert.derived.derived_table import DerivedTable, find_derived
from sbert.derived.earlier_output import fingerprints_now
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.rows.cleaning import hash_texts
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard

__all__ = ["CONTENT_HASH", "ContentBlock", "ContentFunction", "ContentJob"]

CONTENT_HASH = "content_hash"
"""Column with the 16-byte hash of what a row's output is of."""

ContentBlock = tuple[pa.Table, list[str]]
"""The `KEY_COLUMNS` of a block of rows, and the content of each row."""
ContentFunction = Callable[[list[str]], pa.Table]
"""Returns the job's columns, without `CONTENT_HASH`, for contents: as many rows, in the same order."""


class ContentJob(DerivedJob):
    """A job that gives equal contents equal outputs."""

    @abstractmethod
    def content_columns(self) -> pa.Schema:
        """Return the output columns that the function makes."""

    @abstractmethod
    def open_contents(self, table: Table) -> Callable[[SplitInput], Iterator[ContentBlock]]:
        """Return the function that reads the contents of a split, in the order of its rows."""

    @abstractmethod
    def open_function(self, table: Table, out_uri: str) -> ContentFunction:
        """Load models and inputs, and return the function of contents. It is called at most once a block.

        The function is called by several threads at the same time when the concurrency is above 1.
        """

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the function's columns, and the hash of the content."""
        return self.content_columns().append(pa.field(CONTENT_HASH, pa.binary()))

    def open(self, table: Table, out_uri: str) -> SplitFunction:
        """Read the outputs of the splits that leave; load the function when the first unknown content comes."""
        earlier = self._earlier_outputs(table, out_uri)
        read = self.open_contents(table)
        function = _Loaded(lambda: self.open_function(table, out_uri))
        schema = self.content_columns()

        def derive(split: SplitInput) -> Iterator[pa.Table]:
            for keys, contents in read(split):
                hashes = hash_texts(pl.Series("text", contents, pl.String)).to_list()
                missing = {
                    key: content for key, content in zip(hashes, contents, strict=True) if key not in earlier.places
                }
                outputs, new = (
                    earlier.table,
                    {key: place for place, key in enumerate(missing, start=len(earlier.places))},
                )
                if missing:
                    made = function(list(missing.values())).select(schema.names).cast(schema)
                    outputs = pa.concat_tables([earlier.table, made])
                places = [earlier.places.get(key, new.get(key)) for key in hashes]
                taken = outputs.take(pa.array(places, pa.int64()))
                columns = [*(keys[name] for name in KEY_COLUMNS), *taken.columns, pa.array(hashes, pa.binary())]
                yield pa.Table.from_arrays(columns, names=[*KEY_COLUMNS, *schema.names, CONTENT_HASH])

        return derive

    def _earlier_outputs(self, table: Table, out_uri: str) -> "_EarlierOutputs":
        """Return the outputs of the splits that leave, if the output that is there is of this very job."""
        schema = self.content_columns()
        before = find_derived(out_uri)
        if before is None or before.info.job_fingerprint != self.fingerprint(table):
            return _EarlierOutputs({}, schema.empty_table())
        return _outputs_that_leave(before, fingerprints_now(table, before.info.job_fingerprint), schema)


@dataclass(frozen=True)
class _EarlierOutputs:
    """Outputs, and the row of each by the hash of its content."""

    places: dict[bytes, int]
    table: pa.Table


class _Loaded:
    """A function that is made when it is first called; threads wait for each other."""

    def __init__(self, make: Callable[[], ContentFunction]) -> None:
        self._make = make
        self._lock = Lock()
        self._function: ContentFunction | None = None

    def __call__(self, contents: list[str]) -> pa.Table:
        with self._lock:
            if self._function is None:
                self._function = self._make()
        return self._function(contents)


def _outputs_that_leave(before: DerivedTable, wanted: set[str], schema: pa.Schema) -> _EarlierOutputs:
    """Read the outputs of the shards that are no longer wanted."""
    tables = [schema.empty_table()]
    places: dict[bytes, int] = {}
    for shard in before.shards():
        if shard.fingerprint in wanted or not shard.num_rows:
            continue
        with open_shard(before.shard_uri(shard.name)) as parquet:
            rows = parquet.read(columns=[*schema.names, CONTENT_HASH])
        taken = []
        for place, key in enumerate(rows[CONTENT_HASH].to_pylist()):
            if key not in places:
                places[key] = len(places)
                taken.append(place)
        tables.append(rows.select(schema.names).take(pa.array(taken, pa.int64())).cast(schema))
    return _EarlierOutputs(places, pa.concat_tables(tables))
