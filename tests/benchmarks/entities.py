"""Entities from a handful of examples: F1 on another domain.

python -m tests.benchmarks.entities DATA/few_shot_ner --cache words.npz

The folder holds CoNLL 2003 (base labels), WNUT 2017 and the five 5-shot support sets of StructShot (Yang and Katiyar 2020), who
report 22.8 (NNShot) and 29.5 (StructShot). The score is micro-F1 of whole entities, mean of the support sets. Settings were
chosen on WNUT dev (``--part dev``, without the texts of the support sets).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from sbert.apply.entities.fit import BaseKnowledge, fit_tagger, learn_base
from sbert.apply.entities.settings import TaggerSettings
from sbert.apply.marked_texts import MarkedText, read_marked_texts
from tests.benchmarks.word_cache import CachedReader

Spans = set[tuple[int, int, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", choices=["dev", "test"], nargs="+", default=["test"])
    parser.add_argument("--base-texts", type=int, default=9_000, help="sentences of CoNLL; 0 for no base labels")
    parser.add_argument("--tuned-layers", type=int, default=2, help="0 to keep the encoder as it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shots", type=int, choices=[1, 5], default=5)
    parser.add_argument("--cache", type=Path, help="file of word vectors, made if it is not there")
    arguments = parser.parse_args()
    settings = TaggerSettings(tuned_layers=arguments.tuned_layers, seed=arguments.seed)
    reader = CachedReader(arguments.cache, settings.num_layers, settings.tuned_layers if arguments.base_texts else 0)
    folder = arguments.data / f"support-wnut-{arguments.shots}shot"
    supports = [read_marked_texts(str(path)) for path in sorted(folder.glob("*.txt"))]
    base = read_marked_texts(str(arguments.data / "train.txt"))[: arguments.base_texts]
    start = time.process_time()
    reader.read([text.text for text in base])
    read = time.process_time()
    knowledge = learn_base(base, reader, arguments.seed, "base") if base else None
    learned = time.process_time()
    for part in arguments.part:
        texts = read_marked_texts(str(arguments.data / f"{part}-wnut.txt"))
        if part == "dev":
            seen = {text.text for support in supports for text in support}
            texts = [text for text in texts if text.text not in seen]
        reader.read([text.text for text in texts])
        reader.save()
        tagging = time.process_time()
        scores = [score(support, knowledge, texts, reader, settings) for support in supports]
        names = ("f1", "precision", "recall", "f1 without types")
        print(json.dumps({"part": part, "texts": len(texts), "base texts": len(base),
                          "supports": [round(each[0], 1) for each in scores],
                          **dict(zip(names, np.round(np.mean(scores, axis=0), 1).tolist(), strict=True)),
                          "processor seconds": {"read base": round(read - start), "learn base": round(learned - read),
                                                "tag": round((time.process_time() - tagging) / len(scores), 1)}},
                         indent=1), flush=True)  # fmt: skip


def score(
    support: list[MarkedText],
    base: BaseKnowledge | None,
    texts: list[MarkedText],
    reader: CachedReader,
    settings: TaggerSettings,
) -> tuple[float, float, float, float]:
    tagger = fit_tagger(support, base, reader, settings, fingerprint="", encoder_fingerprint="", where="support")
    predicted: list[Spans] = [
        {(entity.start, entity.end, entity.type) for entity in entities}
        for entities in tagger.tag(reader.read([text.text for text in texts]))
    ]
    truth: list[Spans] = [{(span.start, span.end, span.type) for span in text.entities} for text in texts]
    untyped = f1([{(*each[:2], "") for each in spans} for spans in predicted],
                 [{(*each[:2], "") for each in spans} for spans in truth])  # fmt: skip
    return (*f1(predicted, truth), untyped[0])


def f1(predicted: list[Spans], truth: list[Spans]) -> tuple[float, float, float]:
    right = sum(len(one & other) for one, other in zip(predicted, truth, strict=True))
    precision, recall = right / max(sum(map(len, predicted)), 1), right / max(sum(map(len, truth)), 1)
    return 200 * precision * recall / max(precision + recall, 1e-9), 100 * precision, 100 * recall


if __name__ == "__main__":
    main()
