"""Fit a tagger: a few labelled texts name the types, many base texts teach the look of names."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sbert.apply.entities.network import train_hidden_layer
from sbert.apply.entities.settings import TaggerSettings
from sbert.apply.entities.tagger import Float32, Ints, Projection, Tagger, TaggerRecord
from sbert.apply.entities.transitions import OUTSIDE, Transitions, count_transitions
from sbert.apply.entities.tuned_layers import LayerShape, layer_shape, tune_layers
from sbert.apply.marked_texts import MarkedText
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.counted import counted
from sbert.errors import TooFewLabelsError

__all__ = [
    "CODE_VERSION",
    "BaseKnowledge",
    "check_types",
    "earlier_fingerprint",
    "fit_tagger",
    "learn_base",
    "tagger_fingerprint",
    "word_tags",
]

log = logging.getLogger(__name__)

CODE_VERSION = 2
"""Raise it when the code changes so that the same labels make another tagger."""
FIRST_CODE_VERSION = 1
"""Taggers whose encoder stayed as it was."""
MIN_TUNING_TEXTS = 1_000
"""Base texts from which the encoder's layers learn; with fewer they would not learn enough to be of use."""
TEMPERATURE, TUNED_TEMPERATURE = 0.12, 0.18
VECTOR_WEIGHT, SHAPE_WEIGHT = 1.0, 0.7
"""Weights of the parts of a word's features without base labels."""
BASE_WEIGHTS = (1.0, 0.4, 0.0)
"""Weights of the learned part, the vector and the shape, with base labels."""
TUNED_WEIGHTS = (0.7, 0.4, 0.0)
"""The same beside tuned layers."""
TUNED_WEIGHT = 0.7
"""Weight of the hidden layer of tuned layers."""


def tagger_fingerprint(labels: str, base: str, encoder_fingerprint: str, settings: TaggerSettings) -> str:
    """Return a hash of everything that decides a tagger; `labels` and `base` are hashes of labelled texts."""
    return _hash(labels, base, encoder_fingerprint, settings.model_dump_json(), str(CODE_VERSION))


def earlier_fingerprint(labels: str, base: str, encoder_fingerprint: str, settings: TaggerSettings) -> str | None:
    """Return the fingerprint that an earlier release gave a tagger of these labels; None if it did not have these settings.

    A tagger with this fingerprint stays in use, so that upgrading alone does not compute the output anew.
    """
    if settings.tuned_layers not in (0, TaggerSettings().tuned_layers):
        return None
    first_settings = settings.model_dump_json(exclude={"tuned_layers"})
    return _hash(labels, base, encoder_fingerprint, first_settings, str(FIRST_CODE_VERSION))


def _hash(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def check_types(labels: Sequence[MarkedText], where: str) -> dict[str, int]:
    """Check that labels can be learned from, and return the number of entities of each type.

    Raises:
        TooFewLabelsError: no entity is marked, all are of one type, or no word is outside of entities.
    """
    counts = Counter(span.type for text in labels for span in text.entities)
    if len(counts) < 2:
        only = f", {next(iter(counts))!r}" if counts else ""
        raise TooFewLabelsError(
            f"{where}: the labels have {counted(len(counts), 'type')} of entities{only}, but at least 2 are needed: mark "
            "entities of another type too, so that the tagger learns to tell them apart"
        )
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class BaseKnowledge:
    """The result of learning from base labels: features of words, and transitions between tags."""

    projection: Projection
    transitions: Transitions
    num_texts: int
    temperature: float = TEMPERATURE
    frozen: str | None = None
    """Why no layers of the encoder learned, though the settings ask for it."""


def learn_base(base: Sequence[MarkedText], reader: WordReader, seed: int, where: str) -> BaseKnowledge:
    """Learn the look of names from base labels: one hidden layer, and another with the reader's open layers.

    Args:
        base: many texts with entities of any types, at least one.
        reader: gives the words and their vectors; its open layers learn, if it has any.
        seed: the same seed gives the same features on the same machine.
        where: names the base labels in messages.
    """
    types = sorted({span.type for text in base for span in text.entities})
    words = reader.read([text.text for text in base])
    tags = [word_tags(read, text, types) for read, text in zip(words, base, strict=True)]
    transitions = count_transitions(tags)
    plain = _plain_projection(words)
    hidden_FE, bias_E = train_hidden_layer(
        np.concatenate([plain.inputs(read) for read in words]),
        np.concatenate(tags),
        num_tags=1 + len(types),
        num_vector_values=len(plain.mean_H),
        seed=seed,
    )
    shape, frozen = _tunable(reader, sum(bool(read.words) for read in words), where)
    tuned = None
    if shape is not None:
        log.info("%s: tuning %d layers of the encoder on %d base texts", where, shape.num_layers, len(base))
        tuned = tune_layers(reader.encoder, shape, words, tags, num_tags=1 + len(types), seed=seed)
    learned, vector, spelling = BASE_WEIGHTS if tuned is None else TUNED_WEIGHTS
    return BaseKnowledge(
        Projection(plain.mean_H, hidden_FE, bias_E, learned, vector, spelling, tuned, TUNED_WEIGHT if tuned else 0.0),
        transitions,
        len(base),
        TEMPERATURE if tuned is None else TUNED_TEMPERATURE,
        frozen,
    )


def fit_tagger(
    labels: Sequence[MarkedText],
    base: BaseKnowledge | None,
    reader: WordReader,
    settings: TaggerSettings,
    *,
    fingerprint: str,
    encoder_fingerprint: str,
    where: str,
) -> Tagger:
    """Fit a tagger to labelled texts.

    Args:
        labels: texts in which every entity of the wanted types is marked.
        base: what base labels taught by the same reader; None without base labels.
        reader: gives the words and their vectors.
        settings: how to fit.
        fingerprint: name of the tagger, as `tagger_fingerprint` gives it.
        encoder_fingerprint: the encoder of the reader.
        where: names the labels in messages.

    Raises:
        TooFewLabelsError: as `check_types`.
    """
    counts = check_types(labels, where)
    few = sorted(name for name, count in counts.items() if count < 3)
    if few:
        log.warning("%s: fewer than 3 entities are marked of %s: mark five or more of each", where, ", ".join(few))
    types = list(counts)
    words = reader.read([text.text for text in labels])
    tags = [word_tags(read, text, types) for read, text in zip(words, labels, strict=True)]
    base = base or BaseKnowledge(_plain_projection(words), count_transitions(tags), 0)
    tuned = base.projection.tuned
    return Tagger(
        record=TaggerRecord(
            fingerprint=fingerprint,
            encoder_fingerprint=encoder_fingerprint,
            types=types,
            num_layers=settings.num_layers,
            num_texts=len(labels),
            num_entities=counts,
            num_base_texts=base.num_texts,
            tuned=tuned.shape if tuned is not None else None,
            frozen=base.frozen,
            temperature=base.temperature,
            begin=base.transitions.begin,
            go_on=base.transitions.go_on,
            change=base.transitions.change,
        ),
        projection=base.projection,
        labelled_NG=np.concatenate(base.projection(words)),
        tags_N=np.concatenate(tags),
    )


def _tunable(reader: WordReader, num_base_texts: int, where: str) -> tuple[LayerShape | None, str | None]:
    """Return the shape of the layers that can learn, or None and the reason that the encoder is not tuned."""
    if not reader.num_open_layers:
        return None, None
    shape = layer_shape(reader.encoder, reader.num_open_layers)
    if shape is None:
        config: Any = reader.encoder.transformer.config
        frozen = (
            f"the architecture of the encoder is {config.model_type!r}, and layers of BERT alone learn from base labels"
        )
    elif num_base_texts < MIN_TUNING_TEXTS:
        frozen = (
            f"{num_base_texts:,} base texts are too few to tune layers of the encoder: it needs {MIN_TUNING_TEXTS:,}"
        )
    else:
        return shape, None
    log.warning("%s: the encoder was not tuned: %s", where, frozen)
    return None, frozen


def word_tags(words: WordVectors, text: MarkedText, types: Sequence[str]) -> Ints:
    """Return the tag of each word, shape (W,): 0 for no entity, else the place of the type, counted from 1."""
    tags_W = np.full(len(words.words), OUTSIDE, np.int64)
    starts = np.array([start for start, _ in words.words], np.int64)
    ends = np.array([end for _, end in words.words], np.int64)
    for span in text.entities:
        tags_W[(starts < span.end) & (ends > span.start)] = 1 + types.index(span.type)
    return tags_W


def _plain_projection(words: Sequence[WordVectors]) -> Projection:
    """Return features without anything learned: vectors and shapes."""
    mean_H = _mean(words)
    nothing = np.zeros((len(mean_H) + words[0].shapes_WS.shape[1], 0), np.float32)
    return Projection(mean_H, nothing, np.zeros(0, np.float32), 0.0, VECTOR_WEIGHT, SHAPE_WEIGHT)


def _mean(words: Sequence[WordVectors]) -> Float32:
    """Return the mean vector of all words, shape (H,)."""
    total: npt.NDArray[np.float64] = sum(
        (read.vectors_WH.sum(0, dtype=np.float64) for read in words), np.zeros(words[0].vectors_WH.shape[1])
    )
    return np.asarray(total / max(sum(len(read.words) for read in words), 1), np.float32)
