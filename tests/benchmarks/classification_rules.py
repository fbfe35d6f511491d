"""Measure what rules add to heads that have 5 % of the labels (`python -m tests.benchmarks.classification DATA --rules NAME`).

The rules of `phrasebank` were written by hand from knowledge of business English, before any row was looked at. The rules of
`banking77` are made of the class names: the first letters of each longer word of the name must be in the text. No test row and
no label takes part in either.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import polars as pl
from sklearn.metrics import f1_score

from sbert.apply.classification import fit
from sbert.apply.classification.fit import HeadOrigin, HeadRules, fit_head
from sbert.apply.classification.head import Float32
from sbert.apply.classification.rules import Rule, rule_classes, rule_features
from sbert.apply.classification.settings import ClassificationSettings, HeadSettings
from sbert.apply.classification.weak_labels import WeakLabels
from sbert.rows.cleaning import hash_texts
from tests.benchmarks.harness import print_table

__all__ = ["RuleCase", "measure_rules", "name_rules", "sentiment_rules"]

RuleCase = tuple[str, Float32, np.ndarray, list[str], Float32, np.ndarray, list[str], tuple[Rule, ...]]
"""Name; vectors, classes and texts to learn from; the same to measure on; rules."""
SHARE = 0.05
STEM = 5
CHOSEN = "the part that the head chose"
SMALL_WORDS = 4
"""Words of a class name with fewer letters say nothing."""
NAME_WEIGHT = 0.7


def sentiment_rules() -> tuple[Rule, ...]:
    """Return eight rules written by hand."""
    written: tuple[dict[str, object], ...] = (
        {"class": "positive", "terms": ["rose", "grew", "increased", "improved", "up from", "jumped"], "weight": 0.9},
        {"class": "positive", "terms": ["won", "awarded", "growth", "strong", "record high"], "weight": 0.7},
        {"class": "positive", "pattern": "(?i)(profit|sales) (is|are) expected to (grow|increase|rise)", "weight": 0.8},
        {"class": "negative", "terms": ["fell", "decreased", "declined", "dropped", "down from"], "weight": 0.9},
        {"class": "negative", "terms": ["lay off", "layoffs", "job cuts", "warning", "weak"], "weight": 0.8},
        {"class": "negative", "pattern": "(?i)(operating|net|pretax) loss", "weight": 0.7},
        {"class": "neutral", "terms": ["headquartered", "was not disclosed", "general meeting"], "weight": 0.8},
        {"class": "neutral", "pattern": "(?i)(company|firm|group) (is|provides|offers|employs) ", "weight": 0.7},
    )
    return tuple(Rule.model_validate(item) for item in written)


def name_rules(classes: Sequence[str]) -> tuple[Rule, ...]:
    """Return for each class a rule for texts that hold every longer word of its name, by its first letters, in this order."""
    rules = []
    for name in sorted(set(classes)):
        stems = [word[:STEM] for word in name.lower().replace("?", "").split("_") if len(word) >= SMALL_WORDS]
        if stems:
            pattern = "(?i)" + ".*".join(rf"\b{pl.escape_regex(stem)}" for stem in stems)
            rules.append(Rule.model_validate({"class": name, "pattern": pattern, "weight": NAME_WEIGHT}))
    return tuple(rules)


def few(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return which rows are labelled: 5 % of each class, at least two."""
    random = np.random.default_rng(seed)
    taken = np.zeros(len(truth), bool)
    for name in np.unique(truth):
        rows = random.permutation(np.flatnonzero(truth == name))
        taken[rows[: max(2, round(SHARE * len(rows)))]] = True
    return taken


def weak_labels(vectors_ND: Float32, texts: list[str], rules: tuple[Rule, ...]) -> tuple[WeakLabels, np.ndarray]:
    """Return the rows without a label that the job would learn from, and their places."""
    spoken_NK = rule_features(rules, texts)
    order = hash_texts(pl.Series(texts)).arg_sort().to_numpy()
    order = order[(spoken_NK[order] > 0).sum(axis=1) == 1][: ClassificationSettings().max_weak_rows]
    classes = rule_classes(rules)
    labels = [classes[at] for at in spoken_NK[order].argmax(axis=1)]
    return WeakLabels(vectors_ND[order], labels, spoken_NK[order].max(axis=1).astype(np.float64)), order


def compared(case: RuleCase, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield macro-F1 and facts of a head without rules, with each part of them, with both, and with the part that it chose."""
    _, vectors_ND, truth, texts, test_ND, test, test_texts, rules = case
    taken = few(truth, seed)
    weak, places = weak_labels(vectors_ND[~taken], [texts[row] for row in np.flatnonzero(~taken)], rules)
    right = float((np.array(weak.labels) == truth[~taken][places]).mean())
    seen = [texts[row] for row in np.flatnonzero(taken)]
    silent = [""] * len(seen)
    uses = {
        "without rules": None,
        "rows that rules labelled": HeadRules(rules, "text", silent, weak),
        "rules as features": HeadRules(rules, "text", seen),
        "both": HeadRules(rules, "text", seen, weak),
        CHOSEN: HeadRules(rules, "text", seen, weak),
    }
    for name, head_rules in uses.items():
        began = time.perf_counter()
        takes_all = patch.object(fit, "choose_rules", lambda rows, *_: (rows, None))
        with nullcontext() if name == CHOSEN else takes_all:
            head = fit_head(
                vectors_ND[taken], truth[taken].tolist(), HeadSettings(seed=seed),
                HeadOrigin(fingerprint="bench", encoder_fingerprint="", labels_fingerprint=""), rules=head_rules,
            )  # fmt: skip
        if name == CHOSEN and head.record.rules_use is not None:
            print(f"{case[0]}, seed {seed}: {head.record.rules_use.told()}", flush=True)
        named = head.scores(test_ND, test_texts).argmax(axis=1)
        yield (
            name,
            {
                "macro_f1": float(f1_score(test, np.array(head.classes)[named], average="macro")),
                "labels": float(taken.sum()),
                "weak": float(head.record.num_weak_rows),
                "right": right if head.record.num_weak_rows else float("nan"),
                "by_rules": float((named != head.scores(test_ND).argmax(axis=1)).mean()),
                "seconds": time.perf_counter() - began,
            },
        )


def measure_rules(cases: Sequence[RuleCase], seeds: Sequence[int]) -> None:
    """Print the median macro-F1 over seeds, the range, and the median gain."""
    for case in cases:
        results: dict[str, list[dict[str, float]]] = {}
        for seed in seeds:
            for name, values in compared(case, seed):
                results.setdefault(name, []).append(values)
        plain = np.array([values["macro_f1"] for values in results["without rules"]])
        rows = []
        for name, values in results.items():
            scores = np.array([item["macro_f1"] for item in values])
            middle = {key: float(np.median([item[key] for item in values])) for key in values[0]}
            gain = 100 * (scores - plain)
            rows.append(
                (
                    name, f"{middle['labels']:.0f}", f"{middle['weak']:.0f}", "" if np.isnan(middle["right"]) else f"{middle['right']:.1%}",
                    f"{100 * middle['macro_f1']:.1f} ({100 * scores.min():.1f} to {100 * scores.max():.1f})",
                    f"{np.median(gain):+.1f} ({gain.min():+.1f} to {gain.max():+.1f})",
                    f"{middle['by_rules']:.1%}", f"{middle['seconds']:.0f}",
                )
            )  # fmt: skip
        print_table(
            f"{case[0]}: {len(case[-1])} rules, 5 % of the labels, test rows, median (range) of {len(seeds)} seeds",
            ("head", "labels", "weak rows", "of them right", "macro-F1", "gain", "changed by rules", "fit, s"),
            rows,
        )
