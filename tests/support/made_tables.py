"""Tables made row by row, without an encoder: a number decides what a row holds."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema

__all__ = ["DIM", "KEPT", "State", "make_version", "remove_shards_of_version"]

DIM = 4
KEPT: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "price": pl.Float64(),
    "count": pl.Int64(),
    "flag": pl.Boolean(),
    "day": pl.Date(),
    "at": pl.Datetime("us", "UTC"),
    "cost": pl.Decimal(10, 2),
    "tags": pl.List(pl.String()),
    "raw": pl.Binary(),
}
State = dict[str, dict[str, int]]
"""Rows by source and id; the number decides what the row holds."""


def make_version(folder: str, state: State, *, encoder_number: int = 0) -> Table:
    """Commit the next version of a table: sources whose rows differ from the version before are written anew."""
    try:
        table: Table | None = Table.open(folder)
    except Exception:
        table = None
    before = {} if table is None else {shard.fingerprint: shard for shard in table.shards()}
    wanted = {fingerprint(source, rows, encoder_number): (source, rows) for source, rows in state.items() if rows}
    commit(
        folder,
        table,
        add=[write(folder, name, *wanted[name], encoder_number) for name in sorted(wanted.keys() - before.keys())],
        drop=[shard for name, shard in before.items() if name not in wanted],
        encoder=encoder_info(encoder_number),
        kept_schema=KEPT,
        metadata={},
    )
    return Table.open(folder)


def encoder_info(number: int) -> EncoderInfo:
    """Return an encoder's facts."""
    return EncoderInfo(
        model=f"model {number}",
        fingerprint=f"{number:064d}",
        model_fingerprint="m",
        dim=DIM,
        pooling="mean",
        normalized=True,
        max_seq_length=8,
    )


def fingerprint(source: str, rows: dict[str, int], encoder_number: int) -> str:
    """Return a name for rows, as a split's fingerprint names them."""
    import hashlib

    return hashlib.sha256(repr((source, sorted(rows.items()), encoder_number)).encode()).hexdigest()[:32]


def write(folder: str, name: str, source: str, rows: dict[str, int], encoder_number: int) -> ShardRecord:
    """Write the shard of a source."""
    numbers = list(rows.values())
    schema = table_schema(KEPT)
    vectors = np.array([unit_vector(number + 1000 * encoder_number) for number in numbers], np.float32)
    columns: dict[str, Any] = {
        "id": list(rows),
        "source": [source] * len(rows),
        "text_hash": [number.to_bytes(16, "big") for number in numbers],
        "embedding": embedding_column(vectors),
        "num_tokens": [number % 50 for number in numbers],
        "truncated": [number % 2 == 0 for number in numbers],
        **{name: [kept_value(name, number) for number in numbers] for name in KEPT},
    }
    arrays = [
        columns[field.name] if field.name == "embedding" else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    with ShardWriter(folder, name, schema, ShardSettings(row_group_rows=64)) as writer:
        writer.write(pa.Table.from_arrays(arrays, schema=schema))
        return writer.close()[0]


def unit_vector(number: int) -> np.ndarray[Any, Any]:
    """Return a vector of length 1 that differs from number to number."""
    vector = np.random.default_rng(number).normal(size=DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def kept_value(name: str, number: int) -> Any:
    """Return a kept value; every fifth is null."""
    if number % 5 == 4:
        return None
    values = {
        "kind": f"kind {number % 3} 𠮷 ' \" \\",
        "price": number / 7,
        "count": number * 2**33,
        "flag": number % 3 == 0,
        "day": dt.date(1999, 12, 30) + dt.timedelta(days=number),
        "at": dt.datetime(1999, 12, 31, 23, 59, tzinfo=dt.UTC) + dt.timedelta(minutes=number, microseconds=number),
        "cost": Decimal(number - 3) / 4,
        "tags": ["a", f"b{number}"],
        "raw": bytes([number % 256, 0, 255]),
    }
    return values[name]


def remove_shards_of_version(table_uri: str, version: int) -> None:
    """Remove the shards that an earlier version has and the newest has not, as a vacuum does."""
    newest = {shard.name for shard in Table.open(table_uri).shards()}
    for shard in Table.open(table_uri, version).shards():
        if shard.name not in newest:
            Path(table_uri, shard.name).unlink()
