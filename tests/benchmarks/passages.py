"""Measure search by passages: quality against truncation and averaged windows, and what edits of a document cost.

    python -m tests.benchmarks.passages CRANFIELD [--model M]

CRANFIELD is a folder with ``corpus.jsonl`` (_id, title, text), ``queries.jsonl`` (_id, text) and ``qrels.tsv`` (query, document,
score). A document scores as its best passage does. Settings are chosen by half of the queries (even hash of the id); the other
half gives the figures to quote. The costs of edits need no encoder: passages are compared by their text.
"""

import argparse
import hashlib
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl

from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.refresh.job import EncodingSettings
from sbert.refresh.passages import passage_limit, token_counter
from sbert.rows.cleaning import CleaningSettings, clean_texts
from sbert.source.passages.cutter import PassageCutter
from sbert.source.passages.settings import PassageSettings
from tests.benchmarks.harness import print_table

GRID = [
    PassageSettings(max_tokens=max_tokens, with_headings=with_headings)
    for max_tokens in (96, 128, 192, 256)
    for with_headings in (True, False)
]
Vectors = np.ndarray


def read_jsonl(path: Path) -> list[dict[str, str]]:
    """Read the records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Collection:
    """Documents, queries and judgements."""

    def __init__(self, folder: Path) -> None:
        """Read a folder."""
        corpus, queries = read_jsonl(folder / "corpus.jsonl"), read_jsonl(folder / "queries.jsonl")
        self.ids = [row["_id"] for row in corpus]
        self.texts = [row["text"] for row in corpus]
        bodies = [row["text"].removeprefix(row["title"]) for row in corpus]
        titled = [
            f"# {row['title']}\n\n{body}" if row["title"] else body for row, body in zip(corpus, bodies, strict=True)
        ]
        self.documents = pl.DataFrame({"id": self.ids, "text": titled})
        self.relevant: dict[str, dict[str, float]] = defaultdict(dict)
        for row in pl.read_csv(folder / "qrels.tsv", separator="\t", infer_schema=False).iter_rows():
            self.relevant[row[0]][row[1]] = float(row[2])
        self.queries = [row for row in queries if row["_id"] in self.relevant]
        self.is_dev = np.array([hashlib.sha256(row["_id"].encode()).digest()[0] % 2 == 0 for row in self.queries])

    def ndcg(self, scores_QN: Vectors) -> Vectors:
        """Return nDCG@10 of each query, from the scores of all documents."""
        discounts = 1 / np.log2(np.arange(2, 12))
        values = []
        for query, scores in zip(self.queries, scores_QN, strict=True):
            judged = self.relevant[query["_id"]]
            gains = np.array(
                [max(judged.get(self.ids[place], 0), 0) for place in np.argsort(-scores, kind="stable")[:10]]
            )
            best = np.sort([max(score, 0) for score in judged.values()])[::-1][:10]
            ideal = (best * discounts[: len(best)]).sum()
            values.append((gains * discounts).sum() / ideal if ideal else 0.0)
        return np.array(values)


def best_passage_scores(
    collection: Collection, encoder: SentenceEncoder, queries_QD: Vectors, settings: PassageSettings
) -> tuple[Vectors, int]:
    """Return the score of each document, shape (Q, N), and the number of passages."""
    limit = passage_limit(settings, EncodingSettings(), encoder.max_seq_length)
    passages = PassageCutter(settings, CleaningSettings(), token_counter(encoder, "", limit)).cut(
        collection.documents, ""
    )
    vectors_PD = encoder.encode(clean_texts(passages["text"], CleaningSettings()))
    scores_QP = queries_QD @ vectors_PD.T
    firsts = np.flatnonzero(passages["document_id"].is_first_distinct().to_numpy())
    return np.maximum.reduceat(scores_QP, firsts, axis=1), passages.height


def measure_quality(collection: Collection, encoder: SentenceEncoder) -> None:
    """Print nDCG@10 of every way."""
    queries_QD = encoder.encode([row["text"] for row in collection.queries])
    texts = clean_texts(pl.Series(collection.texts), CleaningSettings())
    ways = {
        "truncated": (queries_QD @ encoder.encode(texts).T, len(texts)),
        "averaged windows": (queries_QD @ encoder.encode(texts, windows=WindowSettings()).T, len(texts)),
    }
    for settings in GRID:
        name = f"passages of {settings.max_tokens}, title {'before each' if settings.with_headings else 'once'}"
        ways[name] = best_passage_scores(collection, encoder, queries_QD, settings)
    ndcg = {name: collection.ndcg(scores) for name, (scores, _) in ways.items()}
    is_dev = collection.is_dev
    best = max((name for name in ways if name.startswith("passages")), key=lambda name: ndcg[name][is_dev].mean())
    print_table(
        f"nDCG@10, {len(collection.queries)} queries ({is_dev.sum()} dev), {len(texts):,} documents; best on dev: {best}",
        ("way", "vectors", "dev", "test", "all"),
        [
            (name, ways[name][1], *(f"{part.mean():.3f}" for part in (values[is_dev], values[~is_dev], values)))
            for name, values in ndcg.items()
        ],
    )
    for name in ("truncated", "averaged windows"):
        difference = ndcg[best] - ndcg[name]
        source = np.random.default_rng(0)
        for part, values in (("test", difference[~is_dev]), ("all", difference)):
            means = source.choice(values, (10_000, len(values))).mean(axis=1)
            low, high = np.percentile(means, [2.5, 97.5])
            print(
                f"{best} over {name}, {part} queries: {values.mean():+.3f} (95 % of resamples {low:+.3f} to {high:+.3f})"
            )


def measure_edits(collection: Collection, encoder: SentenceEncoder) -> None:
    """Print how many passages of a document of about 100 passages are new after an edit."""
    source = random.Random(0)
    sentences = [
        part.strip() for text in source.sample(collection.texts, 400) for part in text.split(" . ") if part.strip()
    ]
    rows = []
    for max_tokens in (128, 256):
        settings = PassageSettings(max_tokens=max_tokens)
        cutter = PassageCutter(settings, CleaningSettings(), token_counter(encoder, "", max_tokens))

        def passages(text: str, cutter: PassageCutter = cutter) -> list[str]:
            return cutter.cut(pl.DataFrame({"id": ["d"], "text": [text]}), "")["text"].to_list()

        count = 3 * max_tokens
        original = sentences[:count]
        others = sentences[count : count + 1000]
        before = passages(" . ".join(original))
        edited, inserted = [], []
        for trial in range(200):
            place = source.randrange(count)
            text = " . ".join([*original[:place], source.choice(others), *original[place + 1 :]])
            edited.append(len(set(passages(text)) - set(before)))
            if trial < 100:
                paragraph = " . ".join(source.sample(others, source.randint(2, 8))) + ".\n\n"
                inserted.append(len(set(passages(paragraph + " . ".join(original))) - set(before)))
        for name, costs in (("a sentence replaced", edited), ("a paragraph at the top", inserted)):
            within = np.mean(np.array(costs) <= 3)
            rows.append((max_tokens, len(before), name, f"{np.mean(costs):.2f}", max(costs), f"{within:.1%}"))
    print_table("new passages after an edit", ("max_tokens", "passages", "edit", "mean", "most", "at most 3"), rows)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Documents, queries and judgements.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    asked = parser.parse_args()
    collection, encoder = Collection(asked.folder), SentenceEncoder.from_pretrained(asked.model)
    measure_edits(collection, encoder)
    measure_quality(collection, encoder)


if __name__ == "__main__":
    main()
