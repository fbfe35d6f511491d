"""Measure an erasure: 100 ids of a table of a million rows with five versions, and a search of every file afterwards.

    python -m tests.benchmarks.erase --rows 1000000

The table is made by the library without an encoder: random unit vectors of 384 values and one text of 60 characters a row, in
objects of 10,000 rows. Each later version replaces 5 % of the objects. The ids lie in ``--objects`` of them. The search reads
every value of every Parquet file, and the bytes of all other files.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sbert.erase.run import erase
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.erased_keys import ErasedKeys
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema
from sbert.vectors.unit import unit_rows
from tests.benchmarks.harness import print_table

DIM = 384
KEPT: dict[str, pl.DataType] = {"text": pl.String()}
ROWS_PER_OBJECT = 10_000
NUM_VERSIONS = 5
NUM_IDS = 100
INFO = EncoderInfo(
    model="made up", fingerprint="0" * 64, model_fingerprint="0", dim=DIM, pooling="mean", normalized=True,
    max_seq_length=256,
)  # fmt: skip


def write_object(folder: str, number: int, version: int) -> ShardRecord:
    """Write one object's shard."""
    source = np.random.default_rng(number * NUM_VERSIONS + version)
    vectors = source.standard_normal((ROWS_PER_OBJECT, DIM), np.float32)
    vectors = unit_rows(vectors)
    names = [f"person-{number}-{row}" for row in range(ROWS_PER_OBJECT)]
    schema = table_schema(KEPT)
    rows = pa.table(
        [
            pa.array(names),
            pa.array([f"s3://bucket/raw/part-{number:05d}.jsonl"] * ROWS_PER_OBJECT),
            pa.array([source.bytes(16) for _ in names]),
            embedding_column(vectors),
            pa.array(np.full(ROWS_PER_OBJECT, 14, np.int32)),
            pa.array(np.zeros(ROWS_PER_OBJECT, np.bool_)),
            pa.array([f"words of {name}, as people write them in version {version} of it" for name in names]),
        ],
        schema=schema,
    )
    fingerprint = f"{number:016x}{version:016x}"
    metadata = {"sbert": INFO.model_dump_json()}
    with ShardWriter(folder, fingerprint, schema, ShardSettings(), metadata) as writer:
        writer.write(rows)
        return writer.close()[0]


def make_table(folder: str, num_objects: int) -> float:
    """Make the versions; return the seconds of the first, which writes every row."""
    began = time.perf_counter()
    records = [write_object(folder, number, 0) for number in range(num_objects)]
    commit(folder, None, add=records, drop=[], encoder=INFO, kept_schema=KEPT, metadata={})
    seconds = time.perf_counter() - began
    for version in range(1, NUM_VERSIONS):
        table = Table.open(folder)
        numbers = [(version * 7 + at * NUM_VERSIONS) % num_objects for at in range(max(1, num_objects // 20))]
        drop = [shard for shard in table.shards() if int(shard.fingerprint[:16], 16) in numbers]
        new = [write_object(folder, number, version) for number in numbers]
        commit(folder, table, add=new, drop=drop, encoder=INFO, kept_schema=KEPT, metadata={})
    return seconds


def num_found(folder: Path, ids: list[str]) -> tuple[int, int]:
    """Return the number of files, and of values and other files that name one of the ids as a word."""
    needles = [f"{name}," for name in ids]  # in a text the id is followed by a comma
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    num_hits = 0
    for path in files:
        if path.suffix == ".parquet":
            rows = pl.read_parquet(path, columns=["id", "text"])
            num_hits += int(rows["id"].is_in(pl.Series(ids).implode()).sum())
            num_hits += int(rows["text"].str.contains_any(needles).sum())
        else:
            content = path.read_bytes()
            num_hits += sum(f'"{name}"'.encode() in content for name in ids)
    return len(files), num_hits


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table, in objects of 10,000")
    parser.add_argument("--objects", type=int, default=10, help="objects in which the ids lie")
    asked = parser.parse_args()
    num_objects = max(1, asked.rows // ROWS_PER_OBJECT)
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder = str(Path(name) / "table")
        write_seconds = make_table(folder, num_objects)
        spread = min(asked.objects, num_objects)
        ids = [f"person-{at % spread * num_objects // spread}-{at * 97 % ROWS_PER_OBJECT}" for at in range(NUM_IDS)]
        holding = {f"s3://bucket/raw/part-{at * num_objects // spread:05d}.jsonl" for at in range(spread)}
        before = {shard.name for shard in Table.open(folder).shards()}
        _, before_found = num_found(Path(folder), ids)
        began = time.perf_counter()
        receipt = erase(folder, ErasedKeys(ids=ids))
        seconds = time.perf_counter() - began
        num_files, left = num_found(Path(folder), ids)
        after = {shard.name for shard in Table.open(folder).shards()}
        assert receipt.is_complete
        assert receipt.num_rows_erased == NUM_IDS
        assert len(after - before) == len(holding), "shards that hold no id were rewritten"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print_table(
            f"{NUM_IDS} ids of {num_objects * ROWS_PER_OBJECT:,} rows of {DIM} values, {NUM_VERSIONS} versions, peak "
            f"{memory:,.0f} MiB",
            ("figure", "value"),
            [
                ("write the table, seconds", f"{write_seconds:.1f}"),
                ("erase, seconds", f"{seconds:.2f}"),
                ("erase, of writing the table", f"{seconds / write_seconds:.1%}"),
                ("shards of the newest version that hold an id", f"{len(holding)} of {len(before)}"),
                ("shards rewritten", str(len(after - before))),
                ("versions refused", str(len(receipt.refused_versions))),
                ("values found before", f"{before_found:,}"),
                (f"values found afterwards in {num_files:,} files", str(left)),
            ],
        )


if __name__ == "__main__":
    main()
