"""Regression sets that every installation has: made by rule from the texts that decide, without a download.

============ ======================================== ======================================== ================
set          a text                                   must be nearer to                        metric
============ ======================================== ======================================== ================
negation     of the frozen rows                       itself in other words than its negation  triplet_accuracy
number       of the frozen rows that holds a number   itself in other words than another       triplet_accuracy
                                                      number
typos        of the frozen rows, with typos           itself without typos than all others     ndcg@10
other_domain first sentence of a documentation of     the rest of this documentation than all  ndcg@10
             Python's standard library                others
============ ======================================== ======================================== ================

Where the frozen rows have too few texts that a rule can change, sentences of Python's documentation fill the set up. The
sets depend only on the texts and the seed (and the documentation on the version of Python).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import polars as pl

from sbert.evaluation.changed_texts import change_number, contrasts, negate
from sbert.evaluation.frozen_sets import EvaluationSet, fingerprint_rows
from sbert.evaluation.made_texts import (
    documentation_pairs,
    documentation_sentences,
    filled_up,
    first_sentences,
    text_order,
)
from sbert.evaluation.perturb import perturb
from sbert.evaluation.robustness_settings import RobustnessKind, RobustnessSettings
from sbert.evaluation.settings import Perturbation
from sbert.labels.label_kinds import COLUMNS, LabelKind

__all__ = ["PREFIX", "robustness_sets"]

PREFIX = "robustness:"
"""Begins the name of every made set. No set of a user can have it: their names have no colon."""
MIN_TEXTS = 20
"""A set of fewer texts is not made."""


def robustness_sets(texts: Sequence[str], settings: RobustnessSettings, *, seed: int) -> list[EvaluationSet]:
    """Make the robustness sets that the settings name. A set that has too few texts is left out.

    Args:
        texts: texts of the rows that decide; equal texts give equal sets.
        settings: which sets, and how many texts each.
        seed: of the choice of texts and of their changes.
    """
    own = first_sentences(texts, seed)
    num_texts = settings.num_texts
    made: dict[RobustnessKind, Callable[[], Sequence[tuple[str, ...]]]] = {
        RobustnessKind.NEGATION: lambda: contrasts(_filled_up(own, seed), negate, num_texts, seed=seed),
        RobustnessKind.NUMBER: lambda: contrasts(_filled_up(own, seed), change_number, num_texts, seed=seed),
        RobustnessKind.TYPOS: lambda: _misspelled(_filled_up(own, seed), num_texts, seed),
        RobustnessKind.OTHER_DOMAIN: lambda: _shuffled_pairs(documentation_pairs(), num_texts, seed),
    }
    sets = [_as_set(kind, made[kind]()) for kind in dict.fromkeys(settings.sets)]
    return [each for each in sets if each.rows.height >= MIN_TEXTS]


def _as_set(kind: RobustnessKind, rows: Sequence[tuple[str, ...]]) -> EvaluationSet:
    is_contrast = kind in {RobustnessKind.NEGATION, RobustnessKind.NUMBER}
    label_kind = LabelKind.TRIPLETS if is_contrast else LabelKind.PAIRS
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS[label_kind], pl.String), orient="row")
    none = frame.clear()
    return EvaluationSet(
        name=f"{PREFIX}{kind.value}",
        kind=label_kind,
        rows=frame,
        train=none,
        fingerprint=fingerprint_rows(label_kind, frame, none),
        made_for="triplet_accuracy" if is_contrast else "ndcg@10",
    )


def _filled_up(own: list[str], seed: int) -> Iterator[str]:
    return filled_up(own, documentation_sentences(), seed)


def _misspelled(filled: Iterator[str], num_texts: int, seed: int) -> list[tuple[str, str]]:
    texts = list(islice(filled, num_texts))
    return list(zip(perturb(texts, Perturbation.TYPOS, seed=seed), texts, strict=True))


def _shuffled_pairs(pairs: Sequence[tuple[str, str]], num_pairs: int, seed: int) -> list[tuple[str, str]]:
    return sorted(pairs, key=lambda pair: text_order(pair[0], seed))[:num_pairs]
