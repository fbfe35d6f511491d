"""Measure the cost of following a table in PostgreSQL: first load, 1 % changed, reconcile; compared with a plain COPY.

    python -m tests.benchmarks.sync --rows 1000000

The table is made by the library without an encoder: random unit vectors of 384 values, one text of 60 characters a row.
PostgreSQL runs on this machine. The peer is ``COPY … FROM STDIN (FORMAT binary)`` by psycopg, of a file with the same bytes,
into a table of the same columns without key and index; both run in turns. Peak memory is that of this process.
"""

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa

from sbert.sync.destinations.base import Collection
from sbert.sync.destinations.locate import open_destination
from sbert.sync.destinations.postgres import PostgresDestination
from sbert.sync.destinations.postgres_binary import HEADER, TRAILER, copy_content
from sbert.sync.destinations.postgres_columns import copy_types
from sbert.sync.follow import bring_to_version, sync
from sbert.sync.reconcile import reconcile
from sbert.sync.table_rows import read_rows
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import print_table
from tests.support.postgres import PostgresServer, postgres_server

DIM = 384
KEPT: dict[str, pl.DataType] = {"text": pl.String()}
ROWS_PER_OBJECT = 10_000
NUM_CHANGES = 5


def write_object(folder: str, number: int, seed: int) -> object:
    """Write one object's shard."""
    source = np.random.default_rng(seed)
    vectors = source.standard_normal((ROWS_PER_OBJECT, DIM), np.float32)
    vectors = unit_rows(vectors)
    schema = table_schema(KEPT)
    rows = pa.table(
        [
            pa.array([f"row-{number}-{row}" for row in range(ROWS_PER_OBJECT)]),
            pa.array([f"s3://bucket/raw/part-{number:05d}.jsonl"] * ROWS_PER_OBJECT),
            pa.array([source.bytes(16) for _ in range(ROWS_PER_OBJECT)]),
            embedding_column(vectors),
            pa.array(np.full(ROWS_PER_OBJECT, 14, np.int32)),
            pa.array(np.zeros(ROWS_PER_OBJECT, np.bool_)),
            pa.array(
                [f"some text of about sixty characters, as people write it: {row}" for row in range(ROWS_PER_OBJECT)]
            ),
        ],
        schema=schema,
    )
    with ShardWriter(folder, f"{seed:032x}", schema, ShardSettings()) as writer:
        writer.write(rows)
        return writer.close()[0]


def make_table(folder: str, num_objects: int) -> None:
    """Make version 0 with all objects, and versions with one percent of them replaced each."""
    info = EncoderInfo(
        model="made up", fingerprint="0" * 64, model_fingerprint="0", dim=DIM, pooling="mean", normalized=True,
        max_seq_length=256,
    )  # fmt: skip
    records = [write_object(folder, number, number) for number in range(num_objects)]
    commit(folder, None, add=records, drop=[], encoder=info, kept_schema=KEPT, metadata={})
    num_changed = max(1, num_objects // 100)
    for version in range(NUM_CHANGES):
        numbers = range(version * num_changed, (version + 1) * num_changed)
        table = Table.open(folder)
        changed = [shard for shard in table.shards() if int(shard.fingerprint, 16) in numbers]
        new = [write_object(folder, number, num_objects + number) for number in numbers]
        commit(folder, table, add=new, drop=changed, encoder=info, kept_schema=KEPT, metadata={})


def copy_of_file(server: PostgresServer, table: Table, collection: Collection, folder: Path) -> float:
    """Return the seconds of a COPY of the same bytes from a file."""
    types = copy_types(collection)
    file = folder / "rows.copy"
    with PostgresDestination(server.location, "peer") as destination, file.open("wb") as out:
        out.write(HEADER)
        for rows in read_rows(table, destination):
            out.write(copy_content(rows, types))
        out.write(TRAILER)
    columns = ", ".join(f'"{name}" {kind.name}' for name, kind in types)
    server.execute(f"CREATE TABLE peer_rows ({columns})")
    began = time.perf_counter()
    with psycopg.connect(server.location) as connection, file.open("rb") as source:
        with connection.cursor() as cursor, cursor.copy("COPY peer_rows FROM STDIN (FORMAT binary)") as copy:
            while block := source.read(1 << 20):
                copy.write(block)
        connection.commit()
    seconds = time.perf_counter() - began
    server.execute("DROP TABLE peer_rows")
    file.unlink()
    return seconds


def timed(step: Callable[[], object]) -> float:
    """Return the seconds of a step, without those of collecting the garbage that earlier steps left."""
    gc.collect()
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def first_load(table: Table, location: str, *, is_kept: bool) -> float:
    """Return the seconds of a first load with its key; drop the collection again unless it is kept for readers."""
    with open_destination(location) as destination:
        collection = Collection.of_table(destination.name, table)
        seconds = timed(lambda: bring_to_version(table, destination, collection, None))
        if is_kept:
            destination.switch(collection)
        else:
            destination.drop(collection.name)
        return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table, in objects of 10,000")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of COPY and first load, in turns")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name, postgres_server() as server:
        folder = str(Path(name) / "table")
        make_table(folder, max(1, arguments.rows // ROWS_PER_OBJECT))
        first = Table.open(folder, 0)
        location = f"{server.location}#public.docs"
        collection = Collection.of_table("docs", first)
        peers, loads = [], []
        for number in range(arguments.rounds):
            peers.append(copy_of_file(server, first, collection, Path(name)))
            loads.append(first_load(first, location, is_kept=number == arguments.rounds - 1))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        peer, load = median(peers), median(loads)
        ratio = median([one / other for one, other in zip(peers, loads, strict=True)])
        server.execute(
            "ANALYZE"
        )  # as the server does by itself after a minute, which would change its plans in between
        first_proof = timed(lambda: reconcile(folder, location))
        proof = median([timed(lambda: reconcile(folder, location)) for _ in range(3)])
        changes, proofs_after = [], []
        for version in range(1, NUM_CHANGES + 1):
            changes.append(timed(partial(sync, folder, location, version=version)))
            proofs_after.append(timed(partial(reconcile, folder, location)))
        change, proof_after = median(changes), median(proofs_after)
        again = timed(lambda: sync(folder, location))
        report = reconcile(folder, location)
        assert report.is_equal
        assert report.version == NUM_CHANGES
        print_table(
            f"{first.num_rows:,} rows of {DIM} values into PostgreSQL, peak {memory:,.0f} MiB",
            ("step", "seconds", "of the first load"),
            [
                ("COPY of the same bytes from a file", f"{peer:.1f}", f"{ratio:.2f}"),
                ("first load, with its key, without index", f"{load:.1f}", "1"),
                (f"1 % changed, median of {NUM_CHANGES}", f"{change:.2f}", f"{change / load:.1%}"),
                ("nothing changed", f"{again:.3f}", f"{again / load:.1%}"),
                (
                    "first reconcile, which computes the digests of all rows",
                    f"{first_proof:.1f}",
                    f"{first_proof / load:.1%}",
                ),
                ("every later reconcile", f"{proof:.2f}", f"{proof / load:.1%}"),
                ("reconcile after 1 % changed", f"{proof_after:.2f}", f"{proof_after / load:.1%}"),
            ],
        )


if __name__ == "__main__":
    main()
