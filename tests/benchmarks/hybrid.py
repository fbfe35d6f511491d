"""Measure search by words, by vectors and by both; choose their constants; compare word indexes.

    python -m tests.benchmarks.hybrid retrieval DATA/cranfield DATA/covid_faq
    python -m tests.benchmarks.hybrid choose DATA/cranfield DATA/covid_faq
    python -m tests.benchmarks.hybrid engines DATA/sgd_utterances/train.jsonl.gz --rows 100000

`retrieval` makes a table of each set, searches it by `search_table`, and prints nDCG@10 of the test queries with the interval of
the gain over the better way alone. `choose` tries constants on the dev queries. A query is dev or test by a hash of its text.
`engines` builds word indexes beside each other and needs `pip install bm25s tantivy`.
"""

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.index.fusion import fuse_rankings
from sbert.index.search import Searcher
from sbert.index.search_settings import SearchMode, SearchSettings
from sbert.index.words.bm25 import Part, WordScores
from sbert.index.words.postings import build_postings, postings_bytes
from sbert.table.delta import Table
from tests.benchmarks.harness import print_table, texts_under
from tests.benchmarks.training import RetrievalTask, covid_faq, cranfield
from tests.support.refreshing import refreshed

DEPTH = 100


def load(folder: Path) -> RetrievalTask:
    return cranfield(folder) if (folder / "qrels.tsv").exists() else covid_faq(folder)


def is_dev(task: RetrievalTask) -> np.ndarray:
    return np.array([hashlib.sha256(query.encode()).digest()[0] % 2 == 0 for query in task.queries])


def ndcg(numbers: np.ndarray, task: RetrievalTask) -> np.ndarray:
    """Return nDCG@10 of each query; a judged text counts 1."""
    gains = 1 / np.log2(np.arange(10) + 2)
    scores = []
    for ranking, relevant in zip(numbers, task.relevant, strict=True):
        hits = np.array([number in relevant for number in ranking[:10]])
        scores.append(float((hits * gains[: len(hits)]).sum() / gains[: min(10, len(relevant))].sum()))
    return np.array(scores)


def retrieval(arguments: argparse.Namespace) -> None:
    rows = []
    for folder in map(Path, arguments.data):
        task = load(folder)
        with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
            raw = Path(name) / "raw.jsonl"
            raw.write_text(
                "".join(json.dumps({"id": str(at), "text": text}) + "\n" for at, text in enumerate(task.corpus))
            )
            refreshed(raw, Path(name) / "table", settings={"source": {"keep_columns": ["text"]}})
            searcher = Searcher(Table.open(f"{name}/table"))
            scores = {}
            for mode in SearchMode:
                result = searcher.search(task.queries, settings=SearchSettings(mode=mode))
                rankings = [[int(hit.id) for hit in result.hits(query)] for query in range(len(task.queries))]
                scores[mode] = ndcg(np.array([each + [-1] * (10 - len(each)) for each in rankings]), task)
        test = ~is_dev(task)
        best = max((SearchMode.VECTOR, SearchMode.WORDS), key=lambda mode: scores[mode][test].mean())
        gain = scores[SearchMode.HYBRID] - scores[best]
        picks = np.random.default_rng(0).integers(0, test.sum(), (10_000, test.sum()))
        low, high = np.quantile(gain[test][picks].mean(axis=1), [0.025, 0.975])
        for part, is_in_part in (("dev", ~test), ("test", test)):
            means = [f"{100 * scores[mode][is_in_part].mean():.1f}" for mode in SearchMode]
            interval = f"{100 * low:+.1f} to {100 * high:+.1f}" if part == "test" else ""
            rows.append([folder.name, f"{part}, {is_in_part.sum()} queries", *means, interval])
    print_table("nDCG@10 in percent", ["set", "queries", *SearchMode, "95 % interval of hybrid's gain"], rows)


def choose(arguments: argparse.Namespace) -> None:
    """Choose BM25's constants for words alone, then those of the fusion, by the mean over the sets."""
    encoder = SentenceEncoder.from_pretrained(arguments.model)
    tasks = [load(Path(folder)) for folder in arguments.data]
    near = [
        np.argsort(
            -encoder.encode(task.queries, side=Side.QUERY) @ encoder.encode(task.corpus, side=Side.DOCUMENT).T, axis=1
        )
        for task in tasks
    ]
    words = [
        WordScores([Part(build_postings([pl.Series(task.corpus)]), np.arange(len(task.corpus)))], len(task.corpus))
        for task in tasks
    ]

    def on_dev(rankings: list[np.ndarray]) -> float:
        return float(
            np.mean([ndcg(each, task)[is_dev(task)].mean() for each, task in zip(rankings, tasks, strict=True)])
        )

    grid = {
        (k1, b): [each.search(task.queries, DEPTH, k1=k1, b=b)[1] for each, task in zip(words, tasks, strict=True)]
        for k1, b in itertools.product((0.6, 0.9, 1.2, 1.6, 2.0), (0.4, 0.6, 0.75, 0.9))
    }
    scores = {constants: on_dev(rankings) for constants, rankings in grid.items()}
    best = max(scores, key=lambda constants: scores[constants])
    print_table(
        "words alone, dev", ["k1", "b", "nDCG@10"], [[*map(str, key), f"{value:.4f}"] for key, value in scores.items()]
    )
    rows = []
    for constant, weight in itertools.product((1, 5, 10, 20, 60), (0.3, 0.5, 0.7, 1.0)):
        fused = [
            fuse_rankings([vectors[:, :DEPTH], worded], [1.0, weight], 10, constant)[1]
            for vectors, worded in zip(near, grid[best], strict=True)
        ]
        rows.append([str(constant), str(weight), f"{on_dev(fused):.4f}"])
    print_table(f"hybrid with k1, b = {best}, dev", ["constant", "weight of words", "nDCG@10"], rows)


def engines(arguments: argparse.Namespace) -> None:
    import bm25s
    import tantivy

    texts = texts_under(arguments.raw, arguments.rows)
    queries = texts[:: max(1, len(texts) // 200)][:200]
    rows = []
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder = Path(name)
        began = time.perf_counter()
        postings = build_postings(pl.Series(texts[first : first + 16_384]) for first in range(0, len(texts), 16_384))
        content = postings_bytes(postings)
        built = time.perf_counter() - began
        scores = WordScores([Part(postings, np.arange(len(texts)))], len(texts))
        rows.append(["ours", built, len(content), seconds_a_query(lambda query: scores.search([query], 10), queries)])
        began = time.perf_counter()
        retriever = bm25s.BM25()
        retriever.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=False)
        retriever.save(folder / "bm25s")
        built = time.perf_counter() - began
        ask = lambda query: retriever.retrieve(  # noqa: E731
            bm25s.tokenize([query], stopwords=None, show_progress=False), k=10, show_progress=False
        )
        rows.append(["bm25s", built, size_of(folder / "bm25s"), seconds_a_query(ask, queries)])
        began = time.perf_counter()
        schema = tantivy.SchemaBuilder().add_text_field("text").add_unsigned_field("row", stored=True).build()
        (folder / "tantivy").mkdir()
        index = tantivy.Index(schema, path=str(folder / "tantivy"))
        writer = index.writer(128_000_000, 2)
        for number, text in enumerate(texts):
            writer.add_document(tantivy.Document(text=text, row=number))
        writer.commit()
        writer.wait_merging_threads()
        built = time.perf_counter() - began
        index.reload()
        reader = index.searcher()
        ask = lambda query: reader.search(index.parse_query_lenient(query, ["text"])[0], 10)  # noqa: E731
        rows.append(["tantivy", built, size_of(folder / "tantivy"), seconds_a_query(ask, queries)])
    print_table(
        f"word indexes of {len(texts):,} texts",
        ["engine", "seconds to build", "MiB", "ms a query, median"],
        [[engine, f"{built:.2f}", f"{size / 2**20:.1f}", f"{1000 * query:.2f}"] for engine, built, size, query in rows],
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def seconds_a_query(ask, queries: list[str]) -> float:
    seconds = []
    for query in queries:
        began = time.perf_counter()
        ask(query)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for function in (retrieval, choose):
        part = parts.add_parser(function.__name__)
        part.add_argument("data", nargs="+", help="Folders of retrieval sets.")
        part.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="Encoder of `choose`.")
        part.set_defaults(function=function)
    part = parts.add_parser("engines")
    part.add_argument("raw", nargs="?", help="Raw texts; by default made up.")
    part.add_argument("--rows", type=int, default=100_000, help="Number of texts.")
    part.set_defaults(function=engines)
    asked = parser.parse_args()
    asked.function(asked)


if __name__ == "__main__":
    main()
