"""Explanations: do the parts add up, do they name the words that matter, and which pairs are warned of?

python -m tests.benchmarks.explanation DATA

DATA holds ``stsb/`` (STS Benchmark) and ``msrp/`` (Microsoft paraphrases). Pairs of STS dev with a score of at least 4 are
explained. Of the left text the fifth of the words with the greatest parts is deleted, and as many random words, five times;
the drops of the cosine are compared. Pairs that differ by a number or a negation are made from sentences of MSRP test; the
threshold of the warning was chosen on MSRP train.
"""

import argparse
import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.explanation.explain import Explainer, overlooked_differences
from sbert.explanation.settings import ExplanationSettings, Method
from sbert.rows.text_differences import text_facts

AUXILIARY = re.compile(r"\b(is|are|was|were|will|can|could|should|would|has|have|had|does|did)\b")
Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=200, help="pairs explained by the last layer")
    parser.add_argument("--deep-pairs", type=int, default=10, help="pairs explained through the layers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    encoder = SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32)
    near = sts_pairs(arguments.data / "stsb", arguments.seed)
    result = {
        "last layer": deletion(encoder, near[: arguments.pairs], Method.LAST_LAYER, arguments.seed),
        "through layers": deletion(encoder, near[: arguments.deep_pairs], Method.THROUGH_LAYERS, arguments.seed),
        **{
            name: warned(encoder, pairs)
            for name, pairs in warning_pairs(arguments.data / "msrp", arguments.seed).items()
        },
    }
    print(json.dumps(result, indent=1))


def sts_pairs(folder: Path, seed: int) -> list[Pair]:
    path = next(path for path in sorted(folder.glob("*en*dev*.csv")))
    with path.open(encoding="utf-8") as file:
        pairs = [(row[0], row[1]) for row in csv.reader(file) if float(row[2]) >= 4 and len(row[0].split()) >= 5]
    random.Random(seed).shuffle(pairs)
    return pairs


def deletion(encoder: SentenceEncoder, pairs: Sequence[Pair], method: Method, seed: int) -> dict[str, float]:
    explainer = Explainer(encoder, ExplanationSettings(method=method))
    rng = random.Random(seed)
    errors, relative, top, at_random = [], [], [], []
    for left, right in pairs:
        explanation = explainer.explain(left, right)
        words = explanation.left.words
        num = max(1, round(0.2 * len(words)))
        ranked = sorted(range(len(words)), key=lambda number: -words[number].part)
        removals = [ranked[:num], *(rng.sample(range(len(words)), num) for _ in range(5))]
        texts = [without(left, [(words[at].start, words[at].end) for at in removed]) for removed in removals]
        vectors = encoder.encode([right, left, *texts], side=Side.DOCUMENT)
        drops = vectors[1] @ vectors[0] - vectors[2:] @ vectors[0]
        errors.append(abs(float(np.sum(explanation.parts)) - float(vectors[1] @ vectors[0])))
        relative.append(errors[-1] / max(abs(explanation.cosine), 1e-6))
        top.append(float(drops[0]))
        at_random.append(float(drops[1:].mean()))
    return {
        "pairs": len(pairs),
        "greatest error": max(errors),
        "greatest error relative to the cosine": max(relative),
        "drop without the top fifth": float(np.mean(top)),
        "drop without a random fifth": float(np.mean(at_random)),
        "times": float(np.mean(top) / np.mean(at_random)),
    }


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]} {text[end:]}"
    return " ".join(text.split())


def warning_pairs(folder: Path, seed: int) -> dict[str, list[Pair]]:
    lines = (folder / "msr_paraphrase_test.txt").read_text(encoding="utf-8-sig").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    sentences = [row[3] for row in rows]
    random.Random(seed).shuffle(sentences)
    return {
        "warned: numbers changed": made(sentences, other_number, seed),
        "warned: negated": made(sentences, negated, seed),
        "warned: paraphrases": [(row[3], row[4]) for row in rows if row[0] == "1"],
    }


def made(sentences: Sequence[str], change: Callable[[str, random.Random], str | None], seed: int) -> list[Pair]:
    rng = random.Random(seed)
    return [(text, other) for text in sentences if (other := change(text, rng))][:100]


def other_number(text: str, rng: random.Random) -> str | None:
    places = list(re.finditer(r"(?<![\w.,])\d+(?!\w)", text))
    if not places:
        return None
    place = rng.choice(places)
    old = int(place.group())
    new = old + rng.choice([-1, 1]) * rng.randint(1, max(1, old // 2 + 1))
    return f"{text[: place.start()]}{abs(new) if abs(new) != old else old + 1}{text[place.end() :]}"


def negated(text: str, _: random.Random) -> str | None:
    place = AUXILIARY.search(text)
    return None if place is None or text_facts(text).negations else f"{text[: place.end()]} not{text[place.end() :]}"


def warned(encoder: SentenceEncoder, pairs: Sequence[Pair]) -> float:
    vectors = [encoder.encode([pair[side] for pair in pairs], side=Side.DOCUMENT) for side in (0, 1)]
    cosines = (vectors[0] * vectors[1]).sum(1).tolist()
    return float(
        np.mean([bool(overlooked_differences(*pair, cosine)) for pair, cosine in zip(pairs, cosines, strict=True)])
    )


if __name__ == "__main__":
    main()
