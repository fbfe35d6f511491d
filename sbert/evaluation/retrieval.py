"""Retrieval metrics: rank the corpus by cosine for each query, and find the ranks of the relevant texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.evaluation.geometry import Vectors, unit

__all__ = ["RetrievalTask", "pairs_as_retrieval", "rank_scores"]

QUERIES_PER_CHUNK = 512
DEPTH = 100
"""Ranks that are searched for relevant texts; more when a recall@k needs more."""


@dataclass(frozen=True)
class RetrievalTask:
    """Queries, a corpus, and which texts of the corpus answer which query."""

    queries: list[str]
    corpus: list[str]
    relevant: list[frozenset[int]]
    """Numbers of the relevant texts of each query in the corpus, at least one."""


def pairs_as_retrieval(anchors: Sequence[str], positives: Sequence[str], others: Sequence[str] = ()) -> RetrievalTask:
    """Return the retrieval task of pairs: each distinct anchor is a query, each distinct positive a text of the corpus.

    All positives that a query is paired with are relevant for it. The texts of `others` (negatives) only join the corpus.
    """
    corpus = list(dict.fromkeys([*positives, *others]))
    place = {text: number for number, text in enumerate(corpus)}
    pairs = pl.DataFrame({"anchor": list(anchors), "place": [place[text] for text in positives]})
    grouped = pairs.group_by("anchor", maintain_order=True).agg(pl.col("place"))
    return RetrievalTask(
        queries=grouped["anchor"].to_list(),
        corpus=corpus,
        relevant=[frozenset(places) for places in grouped["place"].to_list()],
    )


def rank_scores(
    task: RetrievalTask, queries_QD: Vectors, corpus_CD: Vectors, ks: Sequence[int] = (1, 10)
) -> Mapping[str, npt.NDArray[np.float64]]:
    """Return for each query its nDCG@10, reciprocal rank@10 and recall@k, by name.

    With binary relevance r at rank i: ``DCG@10 = sum r_i / log2(i + 1)`` over the first ten, divided by the DCG of the
    best ranking there could be (Järvelin and Kekäläinen 2002); reciprocal rank is 1 / rank of the first relevant text
    (Voorhees 1999); recall@k is the share of the relevant texts among the first k. A corpus text that is the query itself
    is skipped, as in BEIR, unless it is relevant. Among equal scores the earlier text in the corpus comes first.
    """
    queries, corpus = unit(queries_QD).astype(np.float32), unit(corpus_CD).astype(np.float32)
    place = {text: number for number, text in enumerate(task.corpus)}
    depth = min(max([DEPTH, *ks]), len(task.corpus))
    values = {name: np.zeros(len(queries)) for name in ("ndcg@10", "mrr@10", *(f"recall@{k}" for k in ks))}
    discounts = 1.0 / np.log2(np.arange(2, 12))
    for first in range(0, len(queries), QUERIES_PER_CHUNK):
        scores = queries[first : first + QUERIES_PER_CHUNK] @ corpus.T
        for row, query in enumerate(task.queries[first : first + QUERIES_PER_CHUNK]):
            number = first + row
            itself = place.get(query)
            if itself is not None and itself not in task.relevant[number]:
                scores[row, itself] = -np.inf
        for row, order in enumerate(_top(scores, depth)):
            relevant = task.relevant[first + row]
            hits = np.fromiter((int(at) in relevant for at in order), dtype=bool, count=len(order))
            ten = hits[:10]
            values["ndcg@10"][first + row] = discounts[: len(ten)][ten].sum() / discounts[: len(relevant)].sum()
            if ten.any():
                values["mrr@10"][first + row] = 1.0 / (1 + int(np.argmax(ten)))
            for k in ks:
                values[f"recall@{k}"][first + row] = hits[:k].sum() / len(relevant)
    return values


def _top(scores_QC: npt.NDArray[np.float32], depth: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the `depth` best texts of each query, best first; ties by number."""
    best = np.argpartition(-scores_QC, depth - 1, axis=1)[:, :depth]
    best.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores_QC, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
