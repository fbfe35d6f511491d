"""Summaries of one sentence on SciTLDR: ROUGE-1 F of the sentence that is ranked first, by rouge-score.

python -m tests.benchmarks.summaries DATA/scitldr [--test]

The ranker learns from train, and its settings were chosen on dev; `--test` measures on test too. Sentences are those of the data
set. Of several references the best counts. Figures are given with words as they stand, and with the stemmer that published
results use (Cachola et al. 2020, "TLDR: Extreme Summarization of Scientific Documents"). The ranker has three seeds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from sbert.apply.summaries.examples import Example, example_of
from sbert.apply.summaries.features import centroid_of
from sbert.apply.summaries.fit import fit_models
from sbert.apply.summaries.lexrank import lexrank, rank_sentences
from sbert.apply.summaries.sentences import SentenceList, count_words, terms_of_texts
from sbert.apply.summaries.settings import RankerSettings
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

Score = Callable[[Example], Float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--test", action="store_true", help="measure on test too, not on dev alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--vectors", type=Path, help="folder that keeps sentence vectors from run to run")
    parser.add_argument("--settings", default="{}", help="settings of the ranker as JSON")
    arguments = parser.parse_args()
    train, _ = read_examples(arguments, "train")
    held_out = {split: read_examples(arguments, split) for split in ("dev", *(["test"] if arguments.test else []))}
    ways: dict[str, Score] = {
        "first sentence": lambda item: -np.arange(len(item.sentences), dtype=np.float32),
        "centroid": lambda item: item.vectors_SD @ centroid_of(item.vectors_SD),
        "LexRank of vectors alone": lambda item: lexrank(item.vectors_SD @ item.vectors_SD.T),
        "LexRank of words and vectors": lambda item: rank_sentences(item.sentences, item.vectors_SD),
        "best possible": lambda item: item.rouge_S,
    }
    for split, (examples, references) in held_out.items():
        for name, score in ways.items():
            show(split, name, [measure(examples, references, score)])
    figures: dict[str, list[tuple[float, float]]] = {split: [] for split in held_out}
    for seed in arguments.seeds:
        settings = RankerSettings.model_validate({**json.loads(arguments.settings), "seed": seed})
        began = time.process_time()
        models = fit_models([item for item in train if len(item.sentences) > 1], settings)
        print(f"seed {seed}: fitted in {time.process_time() - began:.0f} s of processor time")
        for split, (examples, references) in held_out.items():
            result = measure(examples, references, lambda item: models.scores(item.inputs_SI, item.runs_SW))  # noqa: B023
            figures[split].append(result)
            show(split, f"ranker, seed {seed}", [result])
    for split, results in figures.items():
        show(split, "ranker, median of the seeds", results)


def read_examples(arguments: argparse.Namespace, split: str) -> tuple[list[Example], list[list[str]]]:
    """Return the documents of a split, and their summaries."""
    lines = (arguments.data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    texts = [sentence for document in documents for sentence in document["source"]]
    vectors_ND = encode(arguments, split, texts)
    examples, first = [], 0
    for document in documents:
        sentences = sentence_list(document["source"])
        examples.append(example_of(sentences, vectors_ND[first : first + len(sentences)], document["target"]))
        first += len(sentences)
    return examples, [document["target"] for document in documents]


def encode(arguments: argparse.Namespace, split: str, texts: Sequence[str]) -> Float32:
    """Return unit vectors, from the folder where they are kept."""
    kept = None if arguments.vectors is None else arguments.vectors / f"{split}.npz"
    if kept is not None and kept.exists():
        vectors_ND = np.load(kept)["v"]
    else:
        vectors_ND = SentenceEncoder.from_pretrained(arguments.model).encode(texts, side=Side.DOCUMENT)
        if kept is not None:
            np.savez(kept, v=vectors_ND)
    return unit_rows(vectors_ND)


def sentence_list(texts: Sequence[str]) -> SentenceList:
    """Return given sentences; their places in the document play no part here."""
    places = np.zeros(len(texts), np.int64)
    return SentenceList(tuple(texts), places, places, count_words(texts), tuple(terms_of_texts(texts)), len(texts))


def measure(examples: Sequence[Example], references: Sequence[Sequence[str]], score: Score) -> tuple[float, float]:
    """Return the mean ROUGE-1 F without and with stemmer."""
    best_sentences = [item.sentences.texts[int(np.argmax(score(item)))] for item in examples]
    values = []
    for use_stemmer in (False, True):
        scorer = RougeScorer(["rouge1"], use_stemmer=use_stemmer)
        overlaps = [
            max(scorer.score(reference, sentence)["rouge1"].fmeasure for reference in several)
            for sentence, several in zip(best_sentences, references, strict=True)
        ]
        values.append(statistics.fmean(overlaps))
    return values[0], values[1]


def show(split: str, name: str, figures: Sequence[tuple[float, float]]) -> None:
    plain, stemmed = (statistics.median(values) for values in zip(*figures, strict=True))
    print(
        json.dumps({"rows": split, "way": name, "ROUGE-1": round(plain, 4), "with stemmer": round(stemmed, 4)}),
        flush=True,
    )


if __name__ == "__main__":
    main()
