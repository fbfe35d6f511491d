"""Indexes that the benchmark of search compares ours with: graphs of faiss, graphs and inverted files of LanceDB."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.benchmarks.search_vectors import DIM, Float32

__all__ = ["Cost", "Peer", "cost_of", "faiss_peer", "lance_peers"]

NEIGHBOURS_IN_GRAPH, CANDIDATES_WHILE_BUILDING = 16, 96


class Cost(NamedTuple):
    """Seconds by the clock and of the processors."""

    clock: float
    processor: float


def cost_of(step: Callable[[], object]) -> Cost:
    """Return the cost of a step."""
    clock, processor = time.perf_counter(), time.process_time()
    step()
    return Cost(time.perf_counter() - clock, time.process_time() - processor)


class Peer(NamedTuple):
    """A peer's index."""

    name: str
    build: Cost
    search: Callable[[Float32, int], np.ndarray[Any, Any]]
    """Numbers of the ten nearest rows of one query, with a number of candidates or partitions."""


def faiss_peer(vectors: Float32) -> Peer:
    """Build the index of faiss."""
    import faiss

    graph = faiss.IndexHNSWFlat(DIM, NEIGHBOURS_IN_GRAPH, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = CANDIDATES_WHILE_BUILDING
    build = cost_of(lambda: graph.add(vectors))

    def search(query: Float32, effort: int) -> np.ndarray[Any, Any]:
        graph.hnsw.efSearch = effort
        return np.asarray(graph.search(query[None], 10)[1][0])

    return Peer("faiss HNSW", build, search)


def lance_peers(vectors: Float32, folder: str) -> Iterator[Peer]:
    """Build both indexes of LanceDB, each on a table of its own."""
    import lancedb
    from lancedb.index import HnswSq, IvfPq

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)
    rows = pa.table({"id": np.arange(len(vectors)), "vector": column})
    graph = HnswSq(
        distance_type="dot", num_partitions=1, m=NEIGHBOURS_IN_GRAPH, ef_construction=CANDIDATES_WHILE_BUILDING
    )
    connection = lancedb.connect(folder)

    def peer(name: str, config: Any, ask: Callable[[Any, int], Any]) -> Peer:
        table = connection.create_table(name, rows)
        build = cost_of(lambda: table.create_index("vector", config=config))

        def search(query: Float32, effort: int) -> np.ndarray[Any, Any]:
            asked = ask(table.search(query).distance_type("dot").limit(10), effort)
            return np.asarray(asked.select(["id", "_distance"]).to_arrow()["id"].to_numpy())

        return Peer(f"LanceDB {name}", build, search)

    yield peer("IVF_HNSW_SQ", graph, lambda asked, effort: asked.nprobes(1).ef(effort).refine_factor(3))
    yield peer("IVF_PQ", IvfPq(distance_type="dot"), lambda asked, effort: asked.nprobes(effort).refine_factor(10))
