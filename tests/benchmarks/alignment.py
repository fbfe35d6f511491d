"""Parallel sentences of Tatoeba: errors of the ratio margin with checks, compared with plain cosine.

python -m tests.benchmarks.alignment DATA/tatoeba

An error is a row whose partner is not its translation, or that has none. Plain cosine takes the nearest row. Settings are
the defaults of the job. k is that of CCMatrix (Schwenk et al. 2021); on Chinese (``--languages cmn --k 4``), which the goal
does not name, it makes fewer errors than 4 and 8.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from sbert.apply.alignment.checks import facts_of
from sbert.apply.alignment.job import AlignmentJob
from sbert.apply.alignment.mining import align_vectors, in_memory
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--languages", nargs="+", default=["deu", "fra", "spa"])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    fields = AlignmentJob.model_fields
    parser.add_argument("--k", type=int, default=fields["k"].default)
    parser.add_argument("--min-margin", type=float, default=fields["min_margin"].default)
    parser.add_argument("--max-length-ratio", type=float, default=fields["max_length_ratio"].default)
    arguments = parser.parse_args()
    encoder = SentenceEncoder.from_pretrained(arguments.model)
    for language in arguments.languages:
        texts = [
            (arguments.data / f"tatoeba.{language}-eng.{side}").read_text(encoding="utf-8").splitlines()
            for side in (language, "eng")
        ]
        left, right = (encoder.encode(side, side=Side.DOCUMENT) for side in texts)
        own = np.arange(len(left))
        alignment = align_vectors(
            in_memory(left),
            in_memory(right),
            (facts_of(texts[0]), facts_of(texts[1])),
            (own, own),
            k=arguments.k,
            min_margin=arguments.min_margin,
            max_length_ratio=arguments.max_length_ratio,
        )
        plain = float(((left @ right.T).argmax(1) != own).mean())
        errors = float((alignment.partner_N != own).mean())
        has_partner = alignment.partner_N >= 0
        result = {
            "language": language,
            "errors of plain cosine": plain,
            "errors": errors,
            "ratio": round(errors / plain, 3),
            "rows with a partner": float(has_partner.mean()),
            "of these right": float((alignment.partner_N == own)[has_partner].mean()),
            "without a partner": {
                str(name): int((alignment.reason_N == name).sum()) for name in set(alignment.reason_N) - {None}
            },
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
