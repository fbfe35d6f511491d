"""Fit topics, match them with the earlier topics, and notice new topics among outliers.

Topics are found by k-means on 50 principal components of a sample, and finished by three rounds of spherical k-means on the
whole unit vectors, by which all other rows are assigned. A fit that follows another one begins at its topics. The ids
before go to the topics that share the most rows with them (Kuhn 1955, the Hungarian method), so they outlive another
encoder too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import linear_sum_assignment

from sbert.apply.named_topics import OUTLIER, Topic
from sbert.apply.principal_components import principal_components
from sbert.apply.topics.model import TopicModel, TopicRecord
from sbert.apply.topics.settings import FitSettings
from sbert.apply.topics.telling_words import telling_words
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["Before", "FitRows", "extended", "fit_topics", "new_groups"]

MAX_AUTOMATIC = 300
RESTARTS = 3
ROUNDS = 3
LEAST_OVERLAP = 0.2
"""Share of the rows of either topic that two topics must have in common to be one."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FitRows:
    """N rows that topics are fitted on."""

    texts: pl.Series
    vectors_ND: Float32
    """Shape (N, dim)."""


@dataclass(frozen=True)
class Before:
    """Topics that the output before gave to the N rows of a fit."""

    topics_N: Ints
    """Topic of each row; `OUTLIER` for outliers and rows that it does not have."""
    parents_N: Ints
    next_topic: int
    next_parent: int


def fit_topics(rows: FitRows, settings: FitSettings, encoder_fingerprint: str, before: Before | None) -> TopicModel:
    """Return the topics of rows; topics that were there before keep their ids."""
    unit_ND = unit_rows(rows.vectors_ND)
    labels_N = _finished(unit_ND, _clusters(unit_ND, settings, before), settings.min_topic_rows)
    num_topics = int(labels_N.max()) + 1
    centroids_TD = _centroids(unit_ND, labels_N, num_topics)
    similarities = np.einsum("nd,nd->n", unit_ND, centroids_TD[labels_N])
    least = float(np.quantile(similarities, settings.outlier_share)) if settings.outlier_share else -1.0
    groups_T = _parents(centroids_TD, np.bincount(labels_N, minlength=num_topics), settings.num_parents)
    inside = similarities >= least
    ids, next_topic = _named(labels_N, num_topics, None if before is None else (before.topics_N, before.next_topic))
    parents, next_parent = _named(
        groups_T[labels_N], int(groups_T.max()) + 1, None if before is None else (before.parents_N, before.next_parent)
    )
    words = telling_words(rows.texts.filter(pl.Series(inside)), labels_N[inside])
    topics = [
        Topic(id=int(ids[place]), parent=int(parents[groups_T[place]]), words=words.get(place, ()))
        for place in range(num_topics)
    ]
    record = TopicRecord(
        topics=tuple(topics),
        next_topic=next_topic,
        next_parent=next_parent,
        least_similarity=least,
        mean_similarity=float(similarities.mean()),
        encoder_fingerprint=encoder_fingerprint,
        settings=settings,
    )
    return TopicModel(record, centroids_TD)


def new_groups(model: TopicModel, rows: FitRows, min_rows: int) -> list[Ints]:
    """Return the places of outliers that form new topics: about as near to each other as the rows of a topic are.

    Args:
        model: the topics that they are of none of.
        rows: the outliers.
        min_rows: rows of a new topic, at least.
    """
    if len(rows.vectors_ND) < min_rows:
        return []
    from sklearn.cluster import HDBSCAN

    unit_ND = unit_rows(rows.vectors_ND)
    components = principal_components(unit_ND)[:, :32]
    least = (model.record.mean_similarity + model.record.least_similarity) / 2
    for may_be_one in (False, True):  # by itself HDBSCAN never puts all rows into one cluster
        labels = HDBSCAN(min_cluster_size=min_rows, allow_single_cluster=may_be_one, copy=True).fit_predict(components)
        groups = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
        tight = [places for places in groups if _mean_similarity(unit_ND[places]) >= least]
        if tight:
            return tight
    return []


def _mean_similarity(unit_ND: Float32) -> float:
    """Return the mean cosine of vectors with their centroid."""
    centroid = unit_rows(unit_ND.mean(axis=0, keepdims=True))[0]
    return float((unit_ND @ centroid).mean())


def extended(model: TopicModel, rows: FitRows, groups: list[Ints], others: pl.Series) -> TopicModel:
    """Return the topics with one more for each group of rows, in the group of topics that is nearest.

    Args:
        model: the topics so far.
        rows: the outliers.
        groups: places of the rows of each new topic.
        others: texts of the whole table, from which the words of a new topic set it apart.
    """
    unit_ND = unit_rows(rows.vectors_ND)
    labels = np.full(len(unit_ND), len(groups), np.int64)
    for number, places in enumerate(groups):
        labels[places] = number
    inside = labels < len(groups)
    words = telling_words(
        pl.concat([rows.texts.cast(pl.String), others.cast(pl.String)]),
        np.append(labels, np.full(len(others), len(groups), np.int64)),
    )
    centroids = _centroids(unit_ND[inside], labels[inside], len(groups))
    nearest = (centroids @ model.centroids_TD.T).argmax(axis=1)
    first = model.record.next_topic
    new = tuple(
        Topic(id=first + number, parent=model.record.topics[nearest[number]].parent, words=words.get(number, ()))
        for number in range(len(groups))
    )
    record = model.record.model_copy(update={"topics": (*model.record.topics, *new), "next_topic": first + len(groups)})
    return TopicModel(record, np.concatenate([model.centroids_TD, centroids]))


def _clusters(unit_ND: Float32, settings: FitSettings, before: Before | None) -> Ints:
    """Return the cluster of each row by k-means; a fit that follows another one begins at its topics."""
    from sklearn.cluster import KMeans

    components_NC = principal_components(unit_ND)
    num_different = len(np.unique(components_NC, axis=0))
    if before is not None and settings.num_topics is None:
        topics_before = [topic for topic in np.unique(before.topics_N) if topic != OUTLIER]
        if topics_before:
            start = np.stack([components_NC[before.topics_N == topic].mean(axis=0) for topic in topics_before])
            return np.asarray(KMeans(len(topics_before), init=start, n_init=1).fit_predict(components_NC), np.int64)
    wanted = settings.num_topics or min(MAX_AUTOMATIC, round((len(unit_ND) / 2) ** 0.5))
    wanted = max(1, min(wanted, num_different))
    labels = KMeans(wanted, n_init=RESTARTS, random_state=settings.seed).fit_predict(components_NC)
    return np.asarray(labels, np.int64)


def _finished(unit_ND: Float32, labels_N: Ints, min_rows: int) -> Ints:
    """Return labels from 0 on by decreasing size, after rounds of spherical k-means; too small clusters dissolve."""
    for _ in range(ROUNDS):
        counts = np.bincount(labels_N)
        kept = np.flatnonzero(counts >= min_rows)
        if not len(kept):
            kept = np.array([counts.argmax()])
        centroids = np.stack([unit_ND[labels_N == label].mean(axis=0) for label in kept])
        labels_N = (unit_ND @ unit_rows(centroids).T).argmax(axis=1)
    counts = np.bincount(labels_N)
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    ranks = np.zeros(len(counts), np.int64)
    ranks[order] = np.arange(len(order))
    return np.asarray(ranks[labels_N])


def _centroids(unit_ND: Float32, labels_N: Ints, num: int) -> Float32:
    sums = np.zeros((num, unit_ND.shape[1]), np.float64)
    np.add.at(sums, labels_N, unit_ND)
    return unit_rows(sums.astype(np.float32))


def _parents(centroids_TD: Float32, sizes_T: Ints, num_parents: int | None) -> Ints:
    """Return the group of each topic, from 0 on: Ward's method (1963) on the centroids, seen from the mean of all rows.

    All texts of a corpus have a direction in common. Seen from zero, the middle of the corpus attracts topic after topic
    into one group; seen from the mean row, it does not.
    """
    num_topics = len(centroids_TD)
    wanted = min(num_parents or max(1, round(num_topics**0.5)), num_topics)
    if num_topics == 1 or wanted == 1:
        return np.zeros(num_topics, np.int64)
    from sklearn.cluster import AgglomerativeClustering

    centred_TD = unit_rows(centroids_TD - np.average(centroids_TD, axis=0, weights=sizes_T).astype(np.float32))
    return np.asarray(AgglomerativeClustering(wanted, linkage="ward").fit_predict(centred_TD), np.int64)


def _named(labels_N: Ints, num: int, before: tuple[Ints, int] | None) -> tuple[Ints, int]:
    """Return an id for each of `num` labels, and the next free one; ids before go where most of their rows are."""
    if before is None:
        return np.arange(num), num
    old_N, next_id = before
    old_ids = np.unique(old_N[old_N != OUTLIER])
    ids = np.full(num, -1, np.int64)
    if len(old_ids):
        places = np.searchsorted(old_ids, old_N).clip(0, len(old_ids) - 1)
        is_known = old_N != OUTLIER
        shared = np.zeros((num, len(old_ids)), np.int64)
        np.add.at(shared, (labels_N[is_known], places[is_known]), 1)
        sizes = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
        overlap = shared / np.maximum(sizes, 1)
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= LEAST_OVERLAP:
                ids[row] = old_ids[column]
    for label in np.flatnonzero(ids < 0):
        ids[label] = next_id
        next_id += 1
    return ids, next_id
