"""Tables of given texts and vectors, without an encoder; the text is kept."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.errors import NotATableError
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.vectors.unit import unit_rows

__all__ = ["Row", "make_text_version"]

Row = tuple[str, str, Sequence[float]]
"""Id, text and vector."""


def make_text_version(
    folder: str, sources: Mapping[str, Sequence[Row]], *, kept: Mapping[str, Mapping[str, object]] | None = None
) -> Table:
    """Commit the next version of a table: sources whose rows differ from the version before are written anew.

    Args:
        folder: the table.
        sources: rows by source; all vectors have one length.
        kept: further kept columns: values by id, by the name of the column.
    """
    try:
        table: Table | None = Table.open(folder)
    except NotATableError:
        table = None
    more = {name: pl.Series(list(values.values())).dtype for name, values in (kept or {}).items()}
    kept_schema: dict[str, pl.DataType] = {"text": pl.String(), **more}
    before = {} if table is None else {shard.fingerprint: shard for shard in table.shards()}
    wanted = {_fingerprint(source, rows): (source, rows) for source, rows in sources.items() if rows}
    dim = len(next(iter(wanted.values()))[1][0][2])
    info = EncoderInfo(
        model="made", fingerprint="0" * 64, model_fingerprint="m", dim=dim, pooling="mean", normalized=True,
        max_seq_length=8,
    )  # fmt: skip
    commit(
        folder,
        table,
        add=[_write(folder, name, *wanted[name], kept_schema, kept or {}) for name in sorted(wanted.keys() - before)],
        drop=[shard for name, shard in before.items() if name not in wanted],
        encoder=info,
        kept_schema=kept_schema,
        metadata={},
    )
    return Table.open(folder)


def _fingerprint(source: str, rows: Sequence[Row]) -> str:
    content = repr((source, [(row, text, list(map(float, vector))) for row, text, vector in rows]))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _write(
    folder: str,
    name: str,
    source: str,
    rows: Sequence[Row],
    kept_schema: Mapping[str, pl.DataType],
    kept: Mapping[str, Mapping[str, object]],
) -> ShardRecord:
    schema = table_schema(dict(kept_schema))
    vectors = np.array([vector for _, _, vector in rows], np.float32)
    vectors = unit_rows(vectors)
    columns = {
        "id": [row for row, _, _ in rows],
        "source": [source] * len(rows),
        "text_hash": [hashlib.md5(text.encode(), usedforsecurity=False).digest() for _, text, _ in rows],
        "num_tokens": [len(text.split()) for _, text, _ in rows],
        "truncated": [False] * len(rows),
        "text": [text for _, text, _ in rows],
        **{column: [values[row] for row, _, _ in rows] for column, values in kept.items()},
    }
    arrays = [
        embedding_column(vectors) if field.name == "embedding" else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    with ShardWriter(folder, name, schema, ShardSettings(row_group_rows=64)) as writer:
        writer.write(pa.Table.from_arrays(arrays, schema=schema))
        return writer.close()[0]
