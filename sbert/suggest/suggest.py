"""Choose the texts, or pairs of texts, of a table whose labels would teach most.

Each criterion ranks the same pool of texts. The weighted sum of ranks makes a shortlist, and greedy k-center takes a diverse
choice from it. The result is in the label format with an empty label: fill in the labels, put the file beside the others,
and retrain. Rows without a label are skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression

from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import ColumnError, EncoderMismatchError, LabelError, SettingsError
from sbert.evaluation.geometry import Vectors, unit
from sbert.evaluation.label_metrics import best_threshold, cosines
from sbert.labels.checks import fold_texts, shortfall
from sbert.labels.class_lists import LISTS, ClassLists
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels_and_rows
from sbert.suggest.criteria import (
    Values,
    density,
    k_center,
    margin_uncertainty,
    nearest,
    neighbor_disagreement,
    ranked,
)
from sbert.suggest.predictions import Predictions, load_predictions, prediction_columns
from sbert.suggest.settings import SuggestSettings
from sbert.suggest.suggestion_kinds import SuggestionKind
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Precision

__all__ = ["Suggestions", "load_labelled", "suggest"]


@dataclass(frozen=True)
class Suggestions:
    """Texts or pairs to label."""

    rows: pl.DataFrame
    """The label columns with an empty label, the origin of each text, and the criteria; the best row comes first."""
    num_pool: int
    """Texts to choose from."""
    criteria: tuple[str, ...]
    """Criteria that could be used."""
    note: str = ""
    """What could not be learned from the labels, and how the choice was made instead; empty when all went as asked."""


def suggest(
    table: Table,
    num: int,
    *,
    encoder: SentenceEncoder,
    candidate: SentenceEncoder | None = None,
    labels: LabelSet | None = None,
    labelled: pl.DataFrame | None = None,
    predictions: DerivedTable | None = None,
    settings: SuggestSettings | None = None,
) -> Suggestions:
    """Choose `num` texts or pairs.

    Args:
        table: where texts are taken from.
        num: how many; fewer are returned when the table has fewer.
        encoder: the encoder of the table, for the texts of `labels`.
        candidate: another encoder, for disagreement; None leaves that out.
        labels: existing labels. Their texts are not suggested again, and uncertainty is measured with them. Labels that
            are too few to learn from (`sbert.labels.checks.shortfall`) measure no uncertainty of texts; the note of the
            suggestions says so. None for no labels.
        labelled: texts of all labelled rows (`load_labelled`), also of rows that `labels` leaves out, such as repeats. They
            are not suggested again.
        predictions: the output of `sbert classify` for the table: texts on which it abstains come first. None leaves that
            out.
        settings: weights and sizes.

    Raises:
        ColumnError: when the table does not keep the text.
        LabelError: when the labels are of another kind, or everything is labelled.
        SettingsError: when `num` is below 1, no criterion with a weight can be used, or pairs are to be chosen by
            predictions.
        TableError: when the predictions are of another table, job or encoder.
    """
    settings = settings or SuggestSettings()
    _check_asked(table, num, encoder, labels, predictions, settings)
    frames = [labels.train, labels.dev, labels.test] if labels is not None else []
    frames += [labelled] if labelled is not None else []
    note = _left_out(labels, settings)
    pool = _pool(table, frames, settings)

    def encode(texts: pl.Series) -> Vectors:
        return encoder.encode(texts, prompt=table.encoder.prompt)  # as the rows of the table were

    vectors_ND = vector_matrix(pool.to_arrow(), table.encoder.dim, Precision(table.encoder.precision))
    theirs_ND = None
    if candidate is not None:
        theirs_ND = candidate.encode(pool["text"], prompt=_candidate_prompt(table, encoder, candidate))
    if settings.kind is SuggestionKind.CLASSES:
        said = None if predictions is None else load_predictions(predictions, table, pool, settings.prediction_task)
        suggestions = _texts(pool, vectors_ND, theirs_ND, num, encode, labels, not note, said, settings)
        return replace(suggestions, note=note)
    labelled_pairs = {
        frozenset(pair)
        for frame in frames
        for pair in zip(fold_texts(frame["sentence1"]), fold_texts(frame["sentence2"]), strict=True)
    }
    learned = None if note else labels
    return replace(_pairs(pool, vectors_ND, theirs_ND, num, encode, learned, labelled_pairs, settings), note=note)


def _check_asked(
    table: Table,
    num: int,
    encoder: SentenceEncoder,
    labels: LabelSet | None,
    predictions: DerivedTable | None,
    settings: SuggestSettings,
) -> None:
    """Refuse wrong arguments before any work; `suggest` names the errors."""
    if num < 1:
        raise SettingsError(f"n is {num}: ask for at least 1 row")
    if predictions is not None:
        if settings.kind is not SuggestionKind.CLASSES:
            raise SettingsError(
                f"{predictions.uri}: predictions are classes of texts, but kind is {settings.kind.value}: leave them out, "
                "or set kind to classes"
            )
        prediction_columns(predictions, table, settings.prediction_task)
    if labels is not None and labels.kind.value != settings.kind.value:
        raise LabelError(
            f"the labels are {labels.kind.value}, but kind is {settings.kind.value}: set kind to the kind of the labels"
        )
    if encoder.dim != table.encoder.dim:
        raise EncoderMismatchError(
            f"{table.uri}: the table has dim {table.encoder.dim}, but the encoder gives {encoder.dim}: name a table of "
            "whole vectors"
        )


def _candidate_prompt(table: Table, encoder: SentenceEncoder, candidate: SentenceEncoder) -> str:
    """Return the prompt that a refresh of the table with the candidate would put before each row.

    A table whose prompt is not that of its encoder was given the prompt by its settings, which stay in force.
    """
    own = encoder.prompt_for(Side.DOCUMENT)
    return candidate.prompt_for(Side.DOCUMENT) if table.encoder.prompt == own else table.encoder.prompt


def load_labelled(
    uri: str, settings: SuggestSettings, *, is_multi_label: bool = False
) -> tuple[LabelSet, pl.DataFrame]:
    """Read the existing labels; return the labels to learn from, and the texts of every row with a label.

    Classes may be lists. With `is_multi_label` the rows of one text are joined, as `sbert classify` does for such a task.

    Labels that are too few to learn from are returned too: `suggest` leaves their texts out.

    Raises:
        LabelError, SourceError, StorageError: as `load_labels`.
    """
    label_settings = settings.labels.model_copy(update={"kind": LabelKind(settings.kind.value)})
    lists = ClassLists(join_rows=is_multi_label) if settings.kind is SuggestionKind.CLASSES else None
    labels, rows = load_labels_and_rows(uri, label_settings, to_train=False, class_lists=lists)
    answer = pl.col(labels.columns[-1])
    is_answered = answer.is_not_null()
    if not labels.is_multi_label:
        is_answered &= answer.str.strip_chars() != ""
    texts = [pl.col(name).str.strip_chars() for name in labels.text_columns]
    return labels, rows.filter(is_answered).select(texts).drop_nulls()


def _left_out(labels: LabelSet | None, settings: SuggestSettings) -> str:
    """Return the note about labels that are too few to learn from; empty for enough labels and for none."""
    lack = shortfall(labels, settings.labels) if labels is not None else None
    if lack is None:
        return ""
    if settings.kind is SuggestionKind.CLASSES:
        return f"{lack[0]}: the labelled texts are left out, the others are chosen without uncertainty, by diversity"
    return f"{lack[0]}: the labelled pairs are left out, a pair is uncertain when its cosine is near the median"


def _pool(table: Table, labelled: Sequence[pl.DataFrame], settings: SuggestSettings) -> pl.DataFrame:
    """Read a fixed sample of the table's different texts: the texts with the smallest hashes."""
    column = settings.text_column
    if column not in table.kept_schema:
        kept = ", ".join(table.kept_schema) or "none"
        raise ColumnError(
            f"{table.uri}: the table keeps no column {column!r} (kept: {kept}), so that it has no texts: refresh it with "
            f"--keep-columns {column}, or name the column that holds the text"
        )
    vectors = vector_names(Precision(table.encoder.precision))
    scan = table.scan()
    hashes = scan.select("text_hash").unique().sort("text_hash").head(settings.pool_rows).collect()["text_hash"]
    if hashes.is_empty():
        raise LabelError(f"{table.uri}: the table has no rows, so there is nothing to label")
    pool = (
        scan.filter(pl.col("text_hash") <= pl.lit(hashes[-1]))
        .select("id", "source", "text_hash", *vectors, pl.col(column).cast(pl.String).alias("text"))
        .filter(pl.col("text").is_not_null())
        .collect()
        .sort("text_hash", "source", "id")
        .unique("text_hash", keep="first", maintain_order=True)
    )
    # Labels are read without white space around texts, and repeats of a text count once: the same is asked once.
    pool = pool.with_columns(key=fold_texts(pool["text"])).unique("key", keep="first", maintain_order=True)
    if labelled and settings.kind is SuggestionKind.CLASSES:  # a text of one pair may well be in another
        asked_before = fold_texts(pl.concat([frame["text"] for frame in labelled])).unique()
        pool = pool.filter(~pl.col("key").is_in(asked_before.implode()))
    if pool.height < 2:
        raise LabelError(
            f"{table.uri}: {counted(pool.height, 'text')} without a label, but choosing needs at least 2: add rows"
        )
    return pool


def _texts(
    pool: pl.DataFrame,
    vectors_ND: Vectors,
    theirs_ND: Vectors | None,
    num: int,
    encode: Callable[[pl.Series], Vectors],
    labels: LabelSet | None,
    can_learn: bool,
    predictions: Predictions | None,
    settings: SuggestSettings,
) -> Suggestions:
    neighbors, near = nearest(vectors_ND, settings.num_neighbors)
    criteria = {"density": density(near)}
    first_N = None
    if predictions is not None:
        criteria["prediction"] = predictions.doubt_N
        first_N = predictions.abstained_N if settings.prediction else None
    if theirs_ND is not None:
        criteria["disagreement"] = neighbor_disagreement(neighbors, nearest(theirs_ND, settings.num_neighbors)[0])
    labelled_MD = None
    if labels is not None:
        labelled_MD = encode(pl.concat([labels.train["text"], labels.dev["text"], labels.test["text"]]))
        if can_learn:
            train_RD = labelled_MD[: labels.train.height]
            criteria["uncertainty"] = _uncertainty(train_RD, labels, vectors_ND)
    order = _choose(criteria, vectors_ND, num, settings, labelled_MD, first_N)
    answer = pl.lit(None, pl.String).alias("label")
    if (labels is not None and labels.is_multi_label) or (predictions is not None and predictions.is_multi_label):
        answer = pl.lit(None, LISTS).alias("labels")
    rows = pool[order].select("text", answer, "id", "source")
    return _with_criteria(rows, criteria, order, pool.height)


def _uncertainty(train_RD: Vectors, labels: LabelSet, vectors_ND: Vectors) -> Values:
    """Return how unsure a probe on the labels is of each text.

    Where a text can have several classes, each class has a probe, and the text is as unsure as the least sure of them.
    """
    probe = LogisticRegression(C=10.0, max_iter=1_000)
    if not labels.is_multi_label:
        return margin_uncertainty(probe.fit(train_RD, labels.train["label"].to_list()).predict_proba(vectors_ND))
    doubts = []
    for name in labels.classes:
        has_class = labels.train["label"].list.contains(name).to_numpy()
        if not has_class.all():
            doubts.append(margin_uncertainty(probe.fit(train_RD, has_class).predict_proba(vectors_ND)))
    return np.asarray(np.max(doubts, axis=0), np.float64)


def _pairs(
    pool: pl.DataFrame,
    vectors_ND: Vectors,
    theirs_ND: Vectors | None,
    num: int,
    encode: Callable[[pl.Series], Vectors],
    labels: LabelSet | None,
    labelled_pairs: set[frozenset[str]],
    settings: SuggestSettings,
) -> Suggestions:
    """Pair each text with its neighbours. Random pairs would nearly all be unlike, and teach nothing."""
    neighbors, near = nearest(vectors_ND, settings.num_neighbors)
    left = np.repeat(np.arange(pool.height), neighbors.shape[1])
    right = neighbors.reshape(-1)
    pairs = np.unique(np.sort(np.stack([left, right], axis=1), axis=1), axis=0)
    ours = cosines(vectors_ND[pairs[:, 0]], vectors_ND[pairs[:, 1]])
    fresh = ours <= settings.max_cosine
    if labelled_pairs:
        keys = pool["key"].to_list()
        fresh &= np.array([frozenset((keys[a], keys[b])) not in labelled_pairs for a, b in pairs.tolist()], dtype=bool)
    pairs, ours = pairs[fresh], ours[fresh]
    if not len(pairs):
        raise LabelError(
            "every pair of neighbours is labelled already, or is the same text twice: there is nothing to suggest"
        )
    surroundings = density(near)
    criteria: dict[str, Values] = {
        "density": (surroundings[pairs[:, 0]] + surroundings[pairs[:, 1]]) / 2,
        "uncertainty": -np.abs(ours - _pair_threshold(ours, encode, labels)),
    }
    if theirs_ND is not None:
        theirs = cosines(theirs_ND[pairs[:, 0]], theirs_ND[pairs[:, 1]])
        criteria["disagreement"] = np.abs(ranked(ours) - ranked(theirs))  # ranks: two encoders' cosines differ in scale
    middles_ND = (unit(vectors_ND)[pairs[:, 0]] + unit(vectors_ND)[pairs[:, 1]]).astype(np.float32)
    order = _choose(criteria, middles_ND, num, settings, None)
    first, second = pool[pairs[order, 0]], pool[pairs[order, 1]]
    rows = pl.DataFrame(
        {
            "sentence1": first["text"],
            "sentence2": second["text"],
            "score": pl.Series([None] * len(order), dtype=pl.Float64),
            "id1": first["id"],
            "source1": first["source"],
            "id2": second["id"],
            "source2": second["source"],
        }
    )
    return _with_criteria(rows, criteria, order, pool.height)


def _pair_threshold(ours: Values, encode: Callable[[pl.Series], Vectors], labels: LabelSet | None) -> float:
    """Return the cosine that separates alike from unlike pairs: from the labels, else the median of these pairs."""
    if labels is None:
        return float(np.median(ours))
    frame = labels.train
    similarities = cosines(encode(frame["sentence1"]), encode(frame["sentence2"]))
    threshold = best_threshold((frame["score"] > frame["score"].median()).to_numpy(), similarities)
    return threshold if np.isfinite(threshold) else float(np.median(ours))


def _choose(
    criteria: dict[str, Values],
    vectors_ND: Vectors,
    num: int,
    settings: SuggestSettings,
    labelled_MD: Vectors | None,
    first_N: npt.NDArray[np.bool_] | None = None,
) -> list[int]:
    """Choose rows by the weighted sum of ranks and by diversity; rows of `first_N` come before all others."""
    weights = {name: float(getattr(settings, name)) for name in criteria}
    if not any(weights.values()):
        raise SettingsError(
            f"every criterion that can be used ({', '.join(criteria)}) has weight 0: set the weight of one, or name "
            "enough labels (uncertainty), a candidate (disagreement) or predictions (prediction)"
        )
    total = np.sum([weight * ranked(criteria[name]) for name, weight in weights.items()], axis=0)
    best = np.argsort(-total, kind="stable")
    groups = [best] if first_N is None else [best[first_N[best]], best[~first_N[best]]]
    picks: list[int] = []
    for group in groups:
        shortlist = group[: (num - len(picks)) * settings.shortlist_factor]
        if len(shortlist):
            near = [part for part in (labelled_MD, vectors_ND[picks]) if part is not None and len(part)]
            known_MD = np.concatenate(near) if near else None
            picked = k_center(vectors_ND[shortlist], num - len(picks), 0, known_MD)
            picks += [int(shortlist[at]) for at in picked]
    return picks


def _with_criteria(rows: pl.DataFrame, criteria: dict[str, Values], order: list[int], num_pool: int) -> Suggestions:
    names = sorted(criteria)
    rows = rows.with_columns(pl.Series(name, criteria[name][order]).round(6) for name in names)
    return Suggestions(rows, num_pool, tuple(names))
