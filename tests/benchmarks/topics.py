"""Measure `sbert topics` on BANKING77: agreement with the 77 intents, and how stable the topics are.

    python -m tests.benchmarks.topics DATA/banking77
    PYTHONPATH=/tmp/peer python -m tests.benchmarks.topics DATA/banking77 --peer   # beside BERTopic's default clustering

No label is shown to any of them. The peer is what BERTopic does by default with given vectors: UMAP to 5 values from 15
neighbours, then HDBSCAN with at least 10 rows a topic. It needs `pip install --target /tmp/peer umap-learn hdbscan`, which
this project does not. Outliers count as one more topic.
"""

import argparse
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings
from sbert.derived.derived_table import DerivedTable
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.benchmarks.harness import print_table
from tests.support.made_texts import Row, make_text_version

SEEDS = 3


def topics_of(out: str) -> dict[str, int]:
    """Return the topic of each row."""
    return dict(DerivedTable.open(out).scan().select("id", "topic").collect().iter_rows())


def agreement(intents: npt.NDArray[Any], topics: npt.NDArray[Any]) -> float:
    """Return the normalized mutual information."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(intents, topics))


def stayed(before: dict[str, int], after: dict[str, int]) -> float:
    """Return the share of rows that kept their topic."""
    return float(np.mean([after[row] == topic for row, topic in before.items()]))


def measure_seed(
    rows: list[Row], intents: npt.NDArray[Any], seed: int, folder: Path
) -> tuple[float, float, int, float, float, float]:
    """Return agreement, share of outliers, topics, rows that stay after a night and after a new fit, seconds."""
    table, out = str(folder / f"table-{seed}"), str(folder / f"out-{seed}")
    is_new = np.random.default_rng(seed).random(len(rows)) < 0.01
    old = [row for row, new in zip(rows, is_new, strict=True) if not new]
    make_text_version(table, {"old": old})
    settings = TopicSettings(fit=FitSettings(seed=seed))
    began = time.perf_counter()
    report = find_topics(table, out, settings)
    seconds = time.perf_counter() - began
    before = topics_of(out)
    assigned = np.array([before[row] for row, _, _ in old])
    nmi = agreement(intents[~is_new], assigned)
    make_text_version(table, {"old": old, "new": [row for row, new in zip(rows, is_new, strict=True) if new]})
    find_topics(table, out, settings)
    night = stayed(before, topics_of(out))
    find_topics(table, out, settings.model_copy(update={"refit": True}))
    return nmi, report.num_outliers / len(old), report.num_topics, night, stayed(before, topics_of(out)), seconds


def measure_peer(vectors_ND: npt.NDArray[np.float32], intents: npt.NDArray[Any], seed: int) -> tuple[float, float, int]:
    """Return agreement, share of outliers, and topics of UMAP and HDBSCAN."""
    hdbscan, umap = import_module("hdbscan"), import_module("umap")
    reduced = umap.UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed)
    model = hdbscan.HDBSCAN(
        min_cluster_size=10, metric="euclidean", cluster_selection_method="eom", prediction_data=True
    )
    labels = model.fit_predict(reduced.fit_transform(vectors_ND))
    return agreement(intents, labels), float((labels < 0).mean()), int(labels.max()) + 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of BANKING77")
    parser.add_argument("--peer", action="store_true", help="measure UMAP and HDBSCAN too")
    arguments = parser.parse_args()
    frame = pl.read_csv(arguments.folder / "train.csv")
    intents = frame["category"].to_numpy()
    vectors_ND = SentenceEncoder.from_pretrained(DEFAULT_MODEL).encode(frame["text"].to_list())
    rows = [
        (str(n), text, vector.tolist()) for n, (text, vector) in enumerate(zip(frame["text"], vectors_ND, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as folder:
        results = [measure_seed(rows, intents, seed, Path(folder)) for seed in range(SEEDS)]
    nmi, outliers, topics, night, refit, seconds = (median(column) for column in zip(*results, strict=True))
    lines = [
        (
            "sbert topics",
            f"{nmi:.3f}",
            f"{outliers:.1%}",
            f"{topics:.0f}",
            f"{night:.1%}",
            f"{refit:.1%}",
            f"{seconds:.1f}",
        )
    ]
    if arguments.peer:
        peers = [measure_peer(vectors_ND, intents, seed) for seed in range(SEEDS)]
        nmi, outliers, topics = (median(column) for column in zip(*peers, strict=True))
        lines.append(("UMAP and HDBSCAN", f"{nmi:.3f}", f"{outliers:.1%}", f"{topics:.0f}", "", "", ""))
    print_table(
        f"{len(rows):,} questions, medians of {SEEDS} seeds",
        ("topics by", "NMI", "outliers", "topics", "same after a night", "same after a new fit", "seconds"),
        lines,
    )


if __name__ == "__main__":
    main()
