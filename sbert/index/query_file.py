"""Search with the queries of a file, and write the rows that were found to a Parquet file.

The queries come in any format that raw text has. They are read and searched a block at a time; each block reads the table
once, whatever the number of its queries.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import SettingsError
from sbert.index.best_passages import search_documents
from sbert.index.search import QUERIES_PER_PASS, Searcher
from sbert.index.search_settings import SearchSettings, SearchWay
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.storage.errors import translate_errors
from sbert.storage.files import normalize_uri, open_output
from sbert.table.delta import Table
from sbert.table.shards import columns_with_true_bounds

__all__ = ["FileSearchReport", "read_queries", "search_file"]

ENDING = ".parquet"
MAX_NAMED = 20
"""Rejected queries that a report names; it counts all."""


class NamedReject(BaseModel):
    """A query that could not be searched."""

    model_config = ConfigDict(frozen=True)

    query_id: str | None = Field(description="Its id; empty when the record could not be read.")
    reason: str
    detail: str


class FileSearchReport(BaseModel):
    """The result of a search with a file of queries. Scripts rely on its keys."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    queries_uri: str
    output: str
    num_queries: int = Field(description="Queries that were searched.")
    num_queries_rejected: int = Field(description="Records that are no query.")
    rejected_by_reason: dict[str, int]
    rejected: tuple[NamedReject, ...] = Field(description=f"The first {MAX_NAMED} of them.")
    num_hits: int = Field(description="Rows of the output.")
    way: SearchWay
    seconds: float


class _Rejects:
    """Counts rejected queries, and keeps the first."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()
        self.named: list[NamedReject] = []

    def add(self, query_id: str | None, reason: str, detail: str) -> None:
        self.by_reason[reason] += 1
        if len(self.named) < MAX_NAMED:
            self.named.append(NamedReject(query_id=query_id, reason=reason, detail=detail))


def search_file(
    table: Table,
    queries_uri: str,
    output: str,
    *,
    settings: SearchSettings | None = None,
    source: SourceSettings | None = None,
    per_document: bool = False,
) -> FileSearchReport:
    """Write the rows nearest to each query of a file.

    The output has a line for each row that was found: ``query_id``, ``query`` (the text), ``rank``, ``score``, ``id``,
    ``source`` and the table's kept columns. A kept column with one of these names has ``row_`` before it. The lines of a
    query stand together, in the order of the queries.

    Args:
        table: the version to search.
        queries_uri: file, folder or glob of queries.
        output: Parquet file to write; it appears when it is complete.
        settings: what is asked.
        source: columns that hold text and id of a query; a query without an id is named after its file and row.
        per_document: search a table of passages for documents, see `search_documents`.

    Raises:
        SettingsError: the output is not named as a Parquet file.
        MissingError, EmptySourceError, ColumnError, BrokenObjectError: the queries cannot be read.
        ColumnError: documents are searched for, and the table has no passages.
        ModelError, EncoderMismatchError: as `search_table`.
    """
    began = time.monotonic()
    target = normalize_uri(output)
    if not target.endswith(ENDING):
        raise SettingsError(f"{output}: the output is written as Parquet: name a file that ends in {ENDING}")
    rejects = _Rejects()
    searcher = Searcher(table)
    num_queries = num_hits = 0
    search = partial(search_documents, searcher) if per_document else searcher.search
    way = search([], settings=settings).way
    with translate_errors(target), _output(target, output_schema(table)) as writer:
        for queries in _blocks(queries_uri, source or SourceSettings(), rejects):
            result = search(queries["text"].to_list(), settings=settings)
            way = result.way
            for reject in result.rejected:
                rejects.add(queries["id"][reject.number], reject.reason, reject.detail)
            num_queries += queries.height - len(result.rejected)
            num_hits += result.places.height
            writer.write_table(_hits(queries, result.places, result.rows, writer.schema))
    return FileSearchReport(
        table_uri=table.uri,
        queries_uri=normalize_uri(queries_uri),
        output=target,
        num_queries=num_queries,
        num_queries_rejected=rejects.by_reason.total(),
        rejected_by_reason=dict(rejects.by_reason),
        rejected=tuple(rejects.named),
        num_hits=num_hits,
        way=way,
        seconds=round(time.monotonic() - began, 3),
    )


def read_queries(queries_uri: str, source: SourceSettings) -> list[str]:
    """Return the texts of queries, up to `QUERIES_PER_PASS`; records that are no query are left out.

    Raises:
        MissingError, EmptySourceError, ColumnError, BrokenObjectError: the queries cannot be read.
    """
    block = next(_blocks(queries_uri, source, _Rejects()), None)
    return [] if block is None else block["text"].to_list()[:QUERIES_PER_PASS]


def output_schema(table: Table) -> pa.Schema:
    """Return the columns of the output."""
    own = [
        pa.field("query_id", pa.string()),
        pa.field("query", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
    ]
    names = {field.name for field in own}
    kept = [field for field in table.arrow_schema if field.name in table.kept_schema]
    return pa.schema(
        [*own, *(field.with_name(f"row_{field.name}") if field.name in names else field for field in kept)]
    )


def _blocks(queries_uri: str, source: SourceSettings, rejects: _Rejects) -> Iterator[pl.DataFrame]:
    """Yield ids and texts of queries, as many as one pass over the table takes."""
    waiting: list[pl.DataFrame] = []
    num_waiting = 0
    objects = list_objects(queries_uri, documents=False)
    infer_kept_schema(objects, source)  # raises when a column is in no object
    for item in objects:
        for block in read_span(Span(object=item), source, ReadSettings(), {}):
            for query_id, reason, detail in block.rejects.select("id", "reason", "detail").iter_rows():
                rejects.add(query_id, reason, detail)
            waiting.append(block.rows.select("id", "text"))
            num_waiting += block.rows.height
            if num_waiting >= QUERIES_PER_PASS:
                yield pl.concat(waiting)
                waiting, num_waiting = [], 0
    if num_waiting:
        yield pl.concat(waiting)


def _hits(queries: pl.DataFrame, places: pl.DataFrame, rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return the lines of the output for a block of queries."""
    of_query = queries[places["query"]]
    columns = [of_query["id"], of_query["text"], places["rank"], places["score"], *rows.get_columns()]
    arrays = [
        column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _output(uri: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file that appears at the end of the block, or not at all when the block fails."""
    file = open_output(uri)
    try:
        bounds = columns_with_true_bounds(schema)
        with pq.ParquetWriter(file, schema, compression="zstd", write_statistics=bounds) as writer:
            yield writer
        file.close()
    except BaseException:
        file.discard()
        raise
