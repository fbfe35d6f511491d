"""Train the weights of one head whose kind and strengths are given."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sbert.apply.classification.encoder_classifier import EncoderClassifier
from sbert.apply.classification.head import Float32, Float64, centred, features
from sbert.apply.classification.regression import fit_regression
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.words import TermCounts, TrainedWords, train_words

__all__ = ["GAMMA", "HeadChoice", "LabelledRows", "TrainedHead", "train_head"]

GAMMA = 1.0
"""Width of the Gaussian of a kernel head, where no search chose another."""
Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeadChoice:
    """The settings of a head, which cross-validation chooses."""

    kind: HeadKind
    strength: float
    word_strength: float = 0.0
    word_weight: float = 0.0
    """What the scores of words are multiplied by; 0 for vectors alone."""
    num_landmarks: int | None = None
    """Landmarks of a kernel head, at most; None for as many as the settings allow."""
    gamma: float = GAMMA
    """Width of the Gaussian of a kernel head."""


@dataclass(frozen=True)
class LabelledRows:
    """N labelled rows to learn from, and M rows that rules labelled, which nothing is measured on."""

    vectors_ND: Float32
    rules_NK: Float32
    truth: Int64
    """Number of each row's class, shape (N,); or 1 for each class of a row and 0 for the others, shape (N, C)."""
    weak_MD: Float32
    weak_M: Int64
    weak_weights_M: Float64
    terms: TermCounts | None = None
    """Terms of the labelled rows; None where the head reads vectors alone."""
    classifier: EncoderClassifier | None = None
    """The classifier of the encoder; None where there is none."""
    is_unseen_N: Bools | None = None
    """The rows that the encoder has not learned from, which alone decide; None where all rows do."""

    def take(self, rows: Int64) -> "LabelledRows":
        """Return some of the labelled rows, with all rows that rules labelled."""
        return replace(
            self,
            vectors_ND=self.vectors_ND[rows],
            rules_NK=self.rules_NK[rows],
            truth=self.truth[rows],
            terms=None if self.terms is None else self.terms.take(rows),
            is_unseen_N=None if self.is_unseen_N is None else self.is_unseen_N[rows],
        )

    def at_most(self, num_rows: int, seed: int) -> "LabelledRows":
        """Return so many rows, drawn at random, with all rows that rules labelled; rows that decide are drawn first."""
        if len(self.truth) <= num_rows:
            return self
        order = np.random.default_rng(seed).permutation(len(self.truth))
        if self.is_unseen_N is not None:
            order = order[np.argsort(~self.is_unseen_N[order], kind="stable")]
        return self.take(np.sort(order[:num_rows]))

    @property
    def deciding(self) -> Int64:
        """Places of the rows that may choose, calibrate and judge: those that the encoder has not learned from."""
        if self.is_unseen_N is None:
            return np.arange(len(self.truth))
        return np.flatnonzero(self.is_unseen_N)


@dataclass(frozen=True)
class TrainedHead:
    """Weights of one kind of head."""

    mean_D: Float32
    landmarks_LD: Float32
    weights_FC: Float32
    bias_C: Float32
    rule_weights_KC: Float32
    words: TrainedWords | None = None
    word_weight: float = 0.0
    kind: HeadKind = HeadKind.LINEAR
    gamma: float = GAMMA

    def scores(self, rows: LabelledRows) -> Float64:
        """Return scores before calibration, shape (N, C)."""
        if self.kind is HeadKind.CLASSIFIER:
            features_NF = rows.vectors_ND
        else:
            features_NF = features(rows.vectors_ND, self.mean_D, self.landmarks_LD, self.gamma)
        scores = features_NF @ self.weights_FC + self.bias_C
        scores += rows.rules_NK @ self.rule_weights_KC
        scores_NC = np.asarray(scores, np.float64)
        if self.words is not None and rows.terms is not None:
            scores_NC += self.word_weight * self.words.scores(rows.terms)
        return scores_NC


def train_head(rows: LabelledRows, choice: HeadChoice, settings: HeadSettings, num_classes: int) -> TrainedHead:
    """Train a head; words and vectors learn by themselves, and their scores are added."""
    if choice.kind is HeadKind.CLASSIFIER:
        trained = _ready_classifier(rows, num_classes)
    else:
        trained = _train_vectors(rows, choice, settings, num_classes)
    if not choice.word_weight or rows.terms is None:
        return trained
    words = train_words(
        rows.terms, rows.truth, choice.word_strength, num_classes=num_classes, max_terms=settings.max_terms
    )
    return replace(trained, words=words, word_weight=choice.word_weight)


def _ready_classifier(rows: LabelledRows, num_classes: int) -> TrainedHead:
    """Return the classifier of the encoder, which learns nothing here and reads no rules."""
    assert rows.classifier is not None
    dim = rows.vectors_ND.shape[1]
    return TrainedHead(
        mean_D=np.zeros(dim, np.float32),
        landmarks_LD=np.zeros((0, dim), np.float32),
        weights_FC=rows.classifier.weights_DC,
        bias_C=rows.classifier.bias_C,
        rule_weights_KC=np.zeros((rows.rules_NK.shape[1], num_classes), np.float32),
        kind=HeadKind.CLASSIFIER,
    )


def _train_vectors(rows: LabelledRows, choice: HeadChoice, settings: HeadSettings, num_classes: int) -> TrainedHead:
    """Train the weights of vectors and rules; a class without rows gets a score that no row reaches.

    Rows that rules labelled teach the weights of vectors only. There the rules are silent: otherwise the head would learn
    from the rules that the rules are right.
    """
    vectors_ND = rows.vectors_ND
    mean_D = vectors_ND.mean(axis=0)
    landmarks_LD = np.zeros((0, vectors_ND.shape[1]), np.float32)
    if choice.kind is HeadKind.KERNEL:
        num_landmarks = choice.num_landmarks or settings.num_landmarks
        places = np.random.default_rng(settings.seed).permutation(len(vectors_ND))[:num_landmarks]
        landmarks_LD = centred(vectors_ND[np.sort(places)], mean_D)
    all_ND = np.concatenate([vectors_ND, rows.weak_MD]) if len(rows.weak_MD) else vectors_ND
    features_NF = features(all_ND, mean_D, landmarks_LD, choice.gamma)
    whitening_FF = None
    if choice.kind is HeadKind.KERNEL:
        whitening_FF = _inverse_root(features(vectors_ND[np.sort(places)], mean_D, landmarks_LD, choice.gamma))
        features_NF = features_NF @ whitening_FF
    num_features = features_NF.shape[1]
    if rows.rules_NK.shape[1]:
        silent_MK = np.zeros((len(rows.weak_M), rows.rules_NK.shape[1]), np.float32)
        features_NF = np.concatenate([features_NF, np.concatenate([rows.rules_NK, silent_MK])], axis=1)
    sample_weights = np.concatenate([np.ones(len(rows.truth)), rows.weak_weights_M]) if len(rows.weak_M) else None
    truth = np.concatenate([rows.truth, rows.weak_M]) if len(rows.weak_M) else rows.truth
    weights_FC, bias_C = fit_regression(features_NF, truth, choice.strength, num_classes, sample_weights)
    weights_FC, rule_weights_KC = weights_FC[:num_features], weights_FC[num_features:]
    if whitening_FF is not None:
        weights_FC = whitening_FF @ weights_FC
    return TrainedHead(
        mean_D,
        landmarks_LD,
        weights_FC.astype(np.float32),
        bias_C.astype(np.float32),
        rule_weights_KC.astype(np.float32),
        gamma=choice.gamma,
    )


def _inverse_root(similarities_LL: Float32) -> Float32:
    """Return the inverse square root of a matrix of similarities; directions without weight are left out."""
    values_L, vectors_LL = np.linalg.eigh(similarities_LL.astype(np.float64))
    roots_L = np.where(values_L > 1e-6 * values_L[-1], 1 / np.sqrt(np.maximum(values_L, 1e-12)), 0.0)
    return np.asarray((vectors_LL * roots_L) @ vectors_LL.T, np.float32)
