"""Measure search and its index beside faiss HNSW and LanceDB on the same vectors: build, query, nights, batches, filters, cold start.

    python -m tests.benchmarks.search --rows 1000000 [--parts build,query,nights,batch,filter,cold]
    python -m tests.benchmarks.search --rows 1000000 --corpus FOLDER --keep vectors.npy

The vectors are made up: points around 2,000 centres in a space of 96 dimensions, in 384 values, with noise. Real texts are nearer to
each other: ``--corpus`` takes those of a folder of ``.jsonl.gz`` files, repeated with one word of each replaced, as often as needed. Their
vectors are kept in the file of ``--keep``, because encoding takes longer than everything else. The table is made by the
library without an encoder, in objects of 10,000 rows. Peers: ``faiss.IndexHNSWFlat``, and LanceDB's ``IVF_HNSW_SQ`` with one partition
and ``IVF_PQ`` with its own settings, both with exact refining. The graphs have 16 neighbours a row, and 96 candidates
while building. Each peer looks at the fewest candidates or partitions that reach the recall of our index. "Processor" is processor time of
all threads, which other work on the machine changes less than the time by the clock. Queries come one by one, from
vectors; "with rows" also reads id, source and kept columns, which the peers do not.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.index.index_run import index_table
from sbert.index.index_settings import IndexSettings
from sbert.index.search import Searcher, search_table
from sbert.index.search_settings import SearchSettings
from sbert.index.segment import num_proposed
from sbert.index.version_rows import RowRange, VersionRows
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import ShardRecord, ShardSettings, ShardWriter, embedding_column, table_schema
from tests.benchmarks.harness import alternate, print_table
from tests.benchmarks.search_peers import Cost, Peer, cost_of, faiss_peer, lance_peers
from tests.benchmarks.search_vectors import DIM, NIGHTS_FROM, ROWS_PER_OBJECT, Float32, Vectors, made_up_vectors

KEPT: dict[str, pl.DataType] = {"text": pl.String(), "price": pl.Float64()}
SETTINGS = IndexSettings()
PEER_EFFORTS = (32, 64, 128, 256, 512, 1_024, 2_048)
PARTS = ("build", "query", "nights", "batch", "filter", "cold")


def write_object(folder: str, number: int, vectors_ND: Float32) -> ShardRecord:
    """Write one object's shard."""
    source = np.random.default_rng(number)
    num_rows = len(vectors_ND)
    schema = table_schema(KEPT)
    rows = pa.table(
        [
            pa.array([f"row-{number}-{row}" for row in range(num_rows)]),
            pa.array([f"s3://bucket/raw/part-{number:05d}.jsonl"] * num_rows),
            pa.array([source.bytes(16) for _ in range(num_rows)]),
            embedding_column(vectors_ND),
            pa.array(np.full(num_rows, 14, np.int32)),
            pa.array(np.zeros(num_rows, np.bool_)),
            pa.array([f"some text of about sixty characters, as people write it: {row}" for row in range(num_rows)]),
            pa.array(source.random(num_rows)),
        ],
        schema=schema,
    )
    with ShardWriter(folder, f"{number:032x}", schema, ShardSettings()) as writer:
        writer.write(rows)
        return writer.close()[0]


def encoder_info() -> EncoderInfo:
    """Return facts of the packaged encoder, so that the command can encode queries for the made-up table."""
    encoder = SentenceEncoder.from_pretrained()
    return EncoderInfo(
        model=DEFAULT_MODEL, fingerprint="0" * 64, model_fingerprint=encoder.fingerprint, dim=DIM, pooling="mean",
        normalized=True, max_seq_length=encoder.max_seq_length, compute_dtype=encoder.compute_dtype.value,
    )  # fmt: skip


def add_objects(folder: str, info: EncoderInfo, vectors: Vectors, sizes: dict[int, int]) -> None:
    """Commit objects, given by number and rows."""
    before = Table.open(folder) if (Path(folder) / "_delta_log").exists() else None
    records = [write_object(folder, number, vectors.of_object(number, num_rows)) for number, num_rows in sizes.items()]
    commit(folder, before, add=records, drop=[], encoder=info, kept_schema=KEPT, metadata={})


def table_vectors(table: Table) -> Float32:
    """Return every vector of a table, in the order of its row numbers."""
    return np.concatenate([block.vectors_ND for block in VersionRows(table).vectors([RowRange(0, table.num_rows)])])


class Truth:
    """Scores that the ten nearest rows of each query have at least, so that rows with equal scores are no misses."""

    def __init__(self, searcher: Searcher, queries: Float32) -> None:
        """Compare every row with every query."""
        self.queries = queries
        self._least = searcher._nearest(queries, 10, None, 0)[0].min(axis=1) - 1e-5

    def recall(self, scores: Sequence[Float32]) -> float:
        """Return recall@10 of the exact scores of the rows found for each query."""
        return float(np.mean([(found >= least).sum() / 10 for found, least in zip(scores, self._least, strict=True)]))


def timed_queries(name: str, search: Callable[[Float32], Any], queries: Float32, recall: float) -> list[object]:
    """Return a line of the table of queries."""
    for query in queries[:50]:
        search(query)
    seconds = []
    processor = time.process_time()
    for query in queries:
        began = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - began)
    processor = (time.process_time() - processor) / len(queries)
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1_000
    return [name, round(recall, 4), float(p50), float(p99), len(queries) / sum(seconds), 1 / processor]


def measure_queries(searcher: Searcher, vectors: Float32, peers: list[Peer], truth: Truth) -> None:
    """Compare queries one by one at equal recall."""

    def nearest(query: Float32) -> Any:
        return searcher._nearest(query[None], 10, None, num_proposed(10))

    recall = truth.recall([nearest(query)[0][0] for query in truth.queries])
    lines = [
        timed_queries("ours, with rows", lambda query: searcher.search(query[None]), truth.queries, recall),
        timed_queries("ours, row numbers", nearest, truth.queries, recall),
    ]
    for peer in peers:
        for effort in PEER_EFFORTS:
            reached = truth.recall([vectors[peer.search(query, effort)] @ query for query in truth.queries])
            if reached >= recall - 0.001:
                break
        lines.append(
            timed_queries(
                f"{peer.name}, {effort}", lambda query, p=peer, e=effort: p.search(query, e), truth.queries, reached
            )  # type: ignore[misc]
        )
    header = ["queries one by one", "recall@10", "p50 ms", "p99 ms", "queries/s", "queries/processor second"]
    print_table(f"{len(truth.queries)} queries, {len(vectors):,} rows", header, lines)


def measure_batch(table: Table, queries: Float32) -> None:
    """Compare exact search of many queries with the rate of the machine's matrix product of the same shape."""
    block = torch.from_numpy(made_up_vectors(1, 8_192))
    batch = torch.from_numpy(queries)
    product = min(cost_of(lambda: batch @ block.T).processor for _ in range(5))
    ideal = product * table.num_rows / 8_192
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    without_index = Searcher(table)
    without_index._index.segments = []
    without_index._index.splits_without_segment = dict(without_index._index.places.ranges)
    cost = cost_of(lambda: without_index._nearest(queries, 10, None, 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    by_segments = cost_of(lambda: Searcher(table)._nearest(queries, 10, None, 0))
    print_table(
        f"exact search, {len(queries)} queries",
        ["", "seconds", "processor s", "share of the product's rate"],
        [
            ["matrix products alone", "", ideal, 1.0],
            ["from shards", cost.clock, cost.processor, ideal / cost.processor],
            ["from segments", by_segments.clock, by_segments.processor, ideal / by_segments.processor],
        ],
    )
    print(f"peak memory rose by {(peak - before) / 1024:,.0f} MiB")


def measure_filter(table: Table, queries: Float32) -> None:
    """Compare queries with a filter that leaves 0.1 % with queries without one."""
    searcher = Searcher(table)
    asked = SearchSettings(where="price < 0.001")
    first = cost_of(lambda: searcher.search(queries[:1], settings=asked))
    exact = search_table(table, queries, settings=SearchSettings(where=asked.where, exact=True))
    answer = searcher.search(queries, settings=asked)
    is_equal = answer.rows["id"].equals(exact.rows["id"])
    lines = [
        timed_queries("no filter", lambda query: searcher.search(query[None]), queries, float("nan")),
        timed_queries(
            "0.1 % left", lambda query: searcher.search(query[None], settings=asked), queries, float(is_equal)
        ),
    ]
    header = ["", "recall", "p50 ms", "p99 ms", "queries/s", "queries/processor second"]
    print_table(f"filters; the first query with one took {first.clock * 1000:,.0f} ms", header, lines)


def measure_nights(
    folder: str, info: EncoderInfo, made: Vectors, num_rows: int, full: Cost, queries: Float32, num_nights: int
) -> None:
    """Add one percent of the rows each night, and index."""
    lines = []
    for night in range(num_nights):
        add_objects(folder, info, made, {NIGHTS_FROM + night: max(1, num_rows // 100)})
        reports = []
        cost = cost_of(lambda: reports.append(index_table(folder, settings=SETTINGS)))  # noqa: B023
        report = reports[0]
        lines.append(
            [
                night + 1, report.num_segments, report.num_rows_built, report.recall_at_10,
                100 * report.seconds_up_to_date / full.clock, 100 * cost.clock / full.clock,
                100 * cost.processor / full.processor,
            ]
        )  # fmt: skip
    header = [
        "night",
        "segments",
        "rows built",
        "recall@10",
        "% until up to date",
        "% with merging and measuring",
        "% processor",
    ]
    print_table("1 % new rows a night; shares of the full build", header, lines)
    searcher = Searcher(Table.open(folder))
    truth = Truth(searcher, queries)
    recall = truth.recall([searcher._nearest(query[None], 10, None, num_proposed(10))[0][0] for query in queries])
    print(f"recall@10 of {len(queries)} other queries after {num_nights} nights: {recall:.4f}")


def measure_cold(folders: list[str], rounds: int) -> None:
    """Compare `sbert search` in a new process with the import of torch and transformers."""

    def run(*command: str) -> Callable[[], float]:
        def seconds() -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, *command],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return seconds

    cases = {"import torch, transformers": run("-c", "import torch, transformers")}
    for folder in folders:
        cases[f"sbert search, {Table.open(folder).num_rows:,} rows"] = run(
            "-m", "flows.cli", "search", folder, "how do I reset my password"
        )
    median = alternate(cases, rounds)
    base = median["import torch, transformers"]
    print_table(
        "cold start", ["", "processor s", "ratio"], [[name, value, value / base] for name, value in median.items()]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table, in objects of 10,000")
    parser.add_argument("--queries", type=int, default=1_000, help="queries")
    parser.add_argument("--nights", type=int, default=20, help="nights with 1 % new rows")
    parser.add_argument("--lance", type=int, default=2, help="indexes of LanceDB to compare with: 0, 1 or 2")
    parser.add_argument("--corpus", help="folder of .jsonl.gz files with a column text, whose texts are encoded")
    parser.add_argument("--keep", default="vectors.npy", help="file in which the vectors of the corpus are kept")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the cold start")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured, separated by commas")
    asked = parser.parse_args()
    parts = set(asked.parts.split(","))
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder, small = f"{name}/table", f"{name}/small"
        info = encoder_info()
        made = Vectors(asked.rows, asked.nights, asked.queries, asked.corpus, asked.keep)
        add_objects(folder, info, made, dict.fromkeys(range(max(1, asked.rows // ROWS_PER_OBJECT)), ROWS_PER_OBJECT))
        table = Table.open(folder)
        queries = made.of_queries()
        reports = []
        full = cost_of(lambda: reports.append(index_table(folder, settings=SETTINGS)))
        report = reports[0]
        print(
            f"{report.num_rows:,} rows: {report.num_segments} segments, recall@10 {report.recall}, {report.probes} lists"
        )
        if parts & {"build", "query"}:
            vectors = table_vectors(table)
            peers = [faiss_peer(vectors), *itertools.islice(lance_peers(vectors, f"{name}/lance"), asked.lance)]
            builds = [("ours, with reading, measuring and writing", full), *((peer.name, peer.build) for peer in peers)]
            print_table(
                "build", ["", "seconds", "processor s", "rows/processor s"],
                [[who, cost.clock, cost.processor, table.num_rows / cost.processor] for who, cost in builds],
            )  # fmt: skip
            if "query" in parts:
                searcher = Searcher(table)
                measure_queries(searcher, vectors, peers, Truth(searcher, queries))
            del vectors, peers
        if "batch" in parts:
            measure_batch(table, queries)
        if "filter" in parts:
            measure_filter(table, queries)
        if "cold" in parts:
            add_objects(small, info, made, {0: 5_000})
            measure_cold([small, folder], asked.rounds)
        if "nights" in parts:
            measure_nights(folder, info, made, table.num_rows, full, queries, asked.nights)


if __name__ == "__main__":
    main()
