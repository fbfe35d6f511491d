"""Fit a tagger: a few labelled texts say what to look for, many base texts teach what names look like."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sbert.apply.entities.network import train_hidden_layer
from sbert.apply.entities.settings import TaggerSettings
from sbert.apply.entities.tagger import Float32, Ints, Projection, Tagger, TaggerRecord
from sbert.apply.entities.transitions import OUTSIDE, count_transitions
from sbert.apply.marked_texts import MarkedText
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.errors import TooFewLabelsError

__all__ = ["CODE_VERSION", "check_types", "fit_tagger", "tagger_fingerprint", "word_tags"]

log = logging.getLogger(__name__)

CODE_VERSION = 1
"""Raise it when the code changes so that the same labels make another tagger."""
TEMPERATURE = 0.12
VECTOR_WEIGHT, SHAPE_WEIGHT = 1.0, 0.7
"""Weights of the parts of a word's features without base labels."""
BASE_WEIGHTS = (1.0, 0.4, 0.0)
"""Weights of the learned part, the vector and the shape, with base labels."""


def tagger_fingerprint(labels: str, base: str, encoder_fingerprint: str, settings: TaggerSettings) -> str:
    """Return a hash of everything that decides a tagger; `labels` and `base` are hashes of labelled texts."""
    parts = [labels, base, encoder_fingerprint, settings.model_dump_json(), str(CODE_VERSION)]
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
            f"{where}: the labels have {len(counts)} types of entities{only}, at least 2 are needed: mark entities of "
            "another type too, so that the tagger sees names that are not meant"
        )
    few = sorted(name for name, count in counts.items() if count < 3)
    if few:
        log.warning("%s: fewer than 3 entities are marked of %s: mark five or more of each", where, ", ".join(few))
    return dict(sorted(counts.items()))


def fit_tagger(
    labels: Sequence[MarkedText],
    base: Sequence[MarkedText],
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
        base: many texts with entities of any types; empty for none.
        reader: gives the words and their vectors.
        settings: how to fit.
        fingerprint: name of the tagger, as `tagger_fingerprint` gives it.
        encoder_fingerprint: the encoder of the reader.
        where: names the labels in messages.

    Raises:
        TooFewLabelsError: as `check_types`.
    """
    counts = check_types(labels, where)
    types = list(counts)
    words = reader.read([text.text for text in labels])
    tags = [word_tags(read, text, types) for read, text in zip(words, labels, strict=True)]
    base_types = sorted({span.type for text in base for span in text.entities})
    base_words = reader.read([text.text for text in base])
    base_tags = [word_tags(read, text, base_types) for read, text in zip(base_words, base, strict=True)]
    projection = _projection(words, base_words, base_tags, len(base_types), settings.seed)
    transitions = count_transitions(base_tags if base else tags)
    return Tagger(
        record=TaggerRecord(
            fingerprint=fingerprint,
            encoder_fingerprint=encoder_fingerprint,
            types=types,
            num_layers=settings.num_layers,
            num_texts=len(labels),
            num_entities=counts,
            num_base_texts=len(base),
            temperature=TEMPERATURE,
            begin=transitions.begin,
            go_on=transitions.go_on,
            change=transitions.change,
        ),
        projection=projection,
        labelled_NG=np.concatenate([projection(read) for read in words]),
        tags_N=np.concatenate(tags),
    )


def word_tags(words: WordVectors, text: MarkedText, types: Sequence[str]) -> Ints:
    """Return the tag of each word, shape (W,): 0 for no entity, else the place of the type, counted from 1."""
    tags_W = np.full(len(words.words), OUTSIDE, np.int64)
    starts = np.array([start for start, _ in words.words], np.int64)
    ends = np.array([end for _, end in words.words], np.int64)
    for span in text.entities:
        tags_W[(starts < span.end) & (ends > span.start)] = 1 + types.index(span.type)
    return tags_W


def _projection(
    words: Sequence[WordVectors],
    base_words: Sequence[WordVectors],
    base_tags: Sequence[Ints],
    num_base_types: int,
    seed: int,
) -> Projection:
    mean_H = _mean(base_words or words)
    nothing = np.zeros((len(mean_H) + words[0].shapes_WS.shape[1], 0), np.float32)
    plain = Projection(mean_H, nothing, np.zeros(0, np.float32), 0.0, VECTOR_WEIGHT, SHAPE_WEIGHT)
    if not base_words:
        return plain
    inputs_NF = np.concatenate([plain.inputs(read) for read in base_words])
    hidden_FE, bias_E = train_hidden_layer(
        inputs_NF, np.concatenate(base_tags), num_tags=1 + num_base_types, num_vector_values=len(mean_H), seed=seed
    )
    return Projection(mean_H, hidden_FE, bias_E, *BASE_WEIGHTS)


def _mean(words: Sequence[WordVectors]) -> Float32:
    """Return the mean vector of all words, shape (H,)."""
    total: npt.NDArray[np.float64] = sum(
        (read.vectors_WH.sum(0, dtype=np.float64) for read in words), np.zeros(words[0].vectors_WH.shape[1])
    )
    return np.asarray(total / max(sum(len(read.words) for read in words), 1), np.float32)
