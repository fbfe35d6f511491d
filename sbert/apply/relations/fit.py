"""Fit a relator: prototypes from examples, and the line to none of these from examples that are left out in turn.

Each example is compared with the prototype that the other examples of its relation make: it should be found. Then its own
relation is left out: it should be told to have none of the others. So is each pair read backwards (the tail as head), unless
the relation is symmetric, and each pair that people marked as none.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sbert.apply.relations.labels import LabelledPair, check_relations
from sbert.apply.relations.relator import (
    Float32,
    Float64,
    PairFeatures,
    Relator,
    RelatorRecord,
    answers_of,
    nearest_none,
    pair_features,
)
from sbert.apply.relations.settings import RelatorSettings
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.vectors.unit import unit_rows

__all__ = ["CODE_VERSION", "fit_relator", "relator_fingerprint"]

CODE_VERSION = 1
"""Raise it when the code changes so that the same labels make another relator."""
TEMPERATURES = (0.03, 0.05, 0.1, 0.2)
SYMMETRY = 0.05
"""A relation is symmetric if its examples read backwards are, by cosine, at most this much farther from its prototype."""
PENALTY = 10.0

Ints = npt.NDArray[np.int64]


def relator_fingerprint(labels: str, encoder_fingerprint: str, settings: RelatorSettings) -> str:
    """Return a hash of everything that decides a relator; `labels` is the hash of the labelled pairs."""
    parts = [labels, encoder_fingerprint, settings.model_dump_json(), str(CODE_VERSION)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Examples:
    """N labelled pairs that have a relation."""

    features_NG: Float32
    backwards_NG: Float32
    relation_N: Ints
    num_relations: int

    def prototypes(self) -> Float32:
        """Return the mean of each relation's examples, of length 1, shape (R, G)."""
        sums_RG = np.stack([self.features_NG[self.relation_N == name].sum(0) for name in range(self.num_relations)])
        return unit_rows(sums_RG)

    def cosines_left_out(self) -> Float64:
        """Return the cosine of each example with every prototype, its own relation's without itself, shape (N, R)."""
        cosines_NR = np.asarray(self.features_NG @ self.prototypes().T, np.float64)
        for row, name in enumerate(self.relation_N):
            others = (self.relation_N == name) & (np.arange(len(self.relation_N)) != row)
            own_G = unit_rows(self.features_NG[others].sum(0, keepdims=True))[0]
            cosines_NR[row, name] = float(self.features_NG[row] @ own_G)
        return cosines_NR


def fit_relator(
    labels: Sequence[LabelledPair],
    reader: WordReader,
    settings: RelatorSettings,
    *,
    fingerprint: str,
    encoder_fingerprint: str,
    where: str,
) -> Relator:
    """Fit a relator to labelled pairs.

    Args:
        labels: pairs of names with their relation, or None for none of the relations.
        reader: gives the words and their vectors.
        settings: how to fit.
        fingerprint: name of the relator, as `relator_fingerprint` gives it.
        encoder_fingerprint: the encoder of the reader.
        where: names the labels in messages.

    Raises:
        TooFewLabelsError: as `check_relations`.
    """
    counts = check_relations(labels, where)
    relations = list(counts)
    words = reader.read([pair.text for pair in labels])
    features = pair_features(_mean(words), settings)
    related = [(pair, read) for pair, read in zip(labels, words, strict=True) if pair.relation is not None]
    examples = _Examples(
        features_NG=_features(features, related),
        backwards_NG=_features(features, related, backwards=True),
        relation_N=np.array([relations.index(str(pair.relation)) for pair, _ in related], np.int64),
        num_relations=len(relations),
    )
    none = [(pair, read) for pair, read in zip(labels, words, strict=True) if pair.relation is None]
    none_MG = _features(features, none) if none else np.zeros((0, examples.features_NG.shape[1]), np.float32)
    cosines_NR = examples.cosines_left_out()
    temperature = _temperature(cosines_NR, examples.relation_N)
    coefficients, found_share, kept_out = _line(examples, none_MG, cosines_NR)
    return Relator(
        record=RelatorRecord(
            fingerprint=fingerprint,
            encoder_fingerprint=encoder_fingerprint,
            relations=relations,
            num_examples=counts,
            num_none=len(none),
            types=_types(labels),
            settings=settings,
            temperature=temperature,
            coefficients=coefficients,
            found=found_share,
            kept_out=kept_out,
        ),
        features=features,
        prototypes_RG=examples.prototypes(),
        none_MG=none_MG,
    )


def _features(
    features: PairFeatures, pairs: Sequence[tuple[LabelledPair, WordVectors]], *, backwards: bool = False
) -> Float32:
    rows = []
    for pair, read in pairs:
        head, tail = (pair.head.start, pair.head.end), (pair.tail.start, pair.tail.end)
        rows.append(features.of(read, *((tail, head) if backwards else (head, tail))))
    return np.stack(rows)


def _line(examples: _Examples, none_MG: Float32, cosines_NR: Float64) -> tuple[list[float], float, float]:
    """Return the coefficients of the model of any relation, and the shares of examples and foreign pairs it gets right."""
    rows = np.arange(len(cosines_NR))
    own_N = cosines_NR[rows, examples.relation_N]
    none_N = nearest_none(examples.features_NG, none_MG)
    positives = answers_of(cosines_NR, none_N)
    foreign_NR = cosines_NR.copy()
    foreign_NR[rows, examples.relation_N] = -1.0
    negatives = [answers_of(foreign_NR, none_N)]
    prototypes_RG = examples.prototypes()
    backwards_NR = np.asarray(examples.backwards_NG @ prototypes_RG.T, np.float64)
    closeness_N = backwards_NR[rows, examples.relation_N] - own_N
    is_symmetric_R = np.array(
        [closeness_N[examples.relation_N == name].mean() > -SYMMETRY for name in range(examples.num_relations)]
    )
    directed_N = ~is_symmetric_R[examples.relation_N]
    if directed_N.any():
        chosen_NG = examples.backwards_NG[directed_N]
        negatives.append(answers_of(backwards_NR[directed_N], nearest_none(chosen_NG, none_MG)))
    if len(none_MG):
        among_MM = none_MG @ none_MG.T
        np.fill_diagonal(among_MM, -1.0)
        left_out_M = among_MM.max(axis=1).astype(np.float64) if len(none_MG) > 1 else np.zeros(1)
        negatives.append(answers_of(np.asarray(none_MG @ prototypes_RG.T, np.float64), left_out_M))
    unlike = np.concatenate(negatives)
    answers = np.concatenate([positives, unlike])
    truth = np.concatenate([np.ones(len(positives)), np.zeros(len(unlike))])
    model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the shares below say what was reached
        model.fit(answers, truth)
    said = model.predict(answers) == 1
    is_right_N = said[: len(positives)] & (cosines_NR.argmax(axis=1) == examples.relation_N)
    coefficients = [float(value) for value in (*model.intercept_, *model.coef_[0])]
    return coefficients, float(is_right_N.mean()), float(1 - said[len(positives) :].mean())


def _temperature(cosines_NR: Float64, relation_N: Ints) -> float:
    """Return the temperature under which the left-out examples are likeliest."""
    rows = np.arange(len(relation_N))
    return max(TEMPERATURES, key=lambda each: float(log_softmax(cosines_NR / each, axis=1)[rows, relation_N].mean()))


def _types(labels: Sequence[LabelledPair]) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of types of each relation all of whose examples name types."""
    types_of: dict[str, set[tuple[str, str]]] = {}
    untyped: set[str] = set()
    for pair in labels:
        if pair.relation is None:
            continue
        if pair.head.type is None or pair.tail.type is None:
            untyped.add(pair.relation)
        else:
            types_of.setdefault(pair.relation, set()).add((pair.head.type, pair.tail.type))
    return {name: sorted(kinds) for name, kinds in sorted(types_of.items()) if name not in untyped}


def _mean(words: Sequence[WordVectors]) -> Float32:
    """Return the mean vector of the words of all texts, each text once, shape (H,)."""
    texts = {read.text: read for read in words}
    return np.asarray(np.concatenate([read.vectors_WH for read in texts.values()]).mean(0), np.float32)
