"""Evaluate one encoder: every metric on every frozen set, slices, robustness, bias, speed, and the shape of its space.

Production and candidate are both measured by `evaluate` on the same sets, so that only the encoder differs.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.evaluation.bias import Association, measure_bias
from sbert.evaluation.frozen_sets import EvaluationSet
from sbert.evaluation.geometry import Geometry, Vectors, measure_geometry
from sbert.evaluation.label_metrics import PRIMARY_METRICS, check_contrast, check_metric, measure, measure_one
from sbert.evaluation.metric import Metric, interval
from sbert.evaluation.perturb import perturb
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import TEXT_COLUMNS, LabelKind
from sbert.vectors.checks import PROBE_TEXTS

__all__ = ["EncoderEvaluation", "Evaluated", "MetricValue", "SetEvaluation", "Speed", "evaluate", "primary_metric"]

ROBUSTNESS_ROWS = 1_000
"""Rows that are perturbed. The clean value is measured on the same rows."""
LENGTH_SLICES = 3
SPEED_REPEATS = 3
PERTURBED_COLUMN = {
    "scored_pairs": "sentence1", "pairs": "anchor", "triplets": "anchor", "nli": "premise", "classes": "text",
}  # fmt: skip
"""Column whose texts are perturbed: the text that users type."""
RETRIEVED = frozenset({LabelKind.PAIRS, LabelKind.TRIPLETS})
"""Kinds whose metrics search a corpus, so that the value of a row depends on all rows."""


class MetricValue(BaseModel):
    """A metric with its bootstrap interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float = Field(description="Lower end of the interval.")
    high: float = Field(description="Upper end of the interval.")
    num_rows: int


class SetEvaluation(BaseModel):
    """An encoder on one frozen set."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    fingerprint: str = Field(description="Hash of the frozen rows: equal for two encoders that are compared.")
    num_rows: int
    primary_metric: str
    metrics: dict[str, MetricValue]
    slices: dict[str, MetricValue] = Field(description="The primary metric on parts of the rows.")
    robustness: dict[str, MetricValue] = Field(
        description="The primary metric on perturbed texts; `clean` on the same rows."
    )


class Speed(BaseModel):
    """The throughput of the encoder on this machine."""

    model_config = ConfigDict(frozen=True)

    num_texts: int
    texts_per_second: float = Field(description="Median of three passes over the texts.")


class EncoderEvaluation(BaseModel):
    """Everything measured of one encoder, as numbers."""

    model_config = ConfigDict(frozen=True)

    model: str
    fingerprint: str = Field(description="Fingerprint of the encoder that was measured.")
    dim: int
    sets: dict[str, SetEvaluation]
    geometry: Geometry
    bias: list[Association]
    speed: Speed | None


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and the values of each row, which a paired comparison needs."""

    summary: EncoderEvaluation
    metrics: dict[str, dict[str, Metric]]
    """Values by name of the set and name of the metric."""


class TextVectors:
    """Vectors of texts. Each text is encoded once with each prompt, however many metrics ask for it."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        """Begin with no vectors."""
        self._encoder = encoder
        self._number: dict[tuple[str, str], int] = {}
        self._vectors_ND: Vectors = np.zeros((0, encoder.dim), dtype=np.float32)

    def __call__(self, texts: Sequence[str], side: Side) -> Vectors:
        """Return the vectors of N texts that are all on one side, shape (N, dim)."""
        prompt = self._encoder.prompt_for(side)
        new = [text for text in dict.fromkeys(texts) if (prompt, text) not in self._number]
        if new:
            # The numbers continue where the vectors end.
            self._number.update(((prompt, text), len(self._number)) for text in new)
            self._vectors_ND = np.concatenate([self._vectors_ND, self._encoder.encode(new, side=side)])
        return np.asarray(self._vectors_ND[[self._number[prompt, text] for text in texts]])


def primary_metric(frozen: EvaluationSet, settings: EvaluationSettings) -> str:
    """Return the metric that decides on a set: the one in the settings, else the default of its kind of labels.

    Raises:
        EvaluationError: when rows of this kind have no metric (plain texts), or every encoder has the same value.
        SettingsError: when the set does not have the metric in the settings.
    """
    name = settings.primary_metric or PRIMARY_METRICS.get(frozen.kind, "")
    check_metric(frozen, settings, name)
    check_contrast(frozen, name)
    return name


def evaluate(encoder: SentenceEncoder, sets: Iterable[EvaluationSet], settings: EvaluationSettings) -> Evaluated:
    """Measure an encoder on frozen sets.

    Raises:
        EvaluationError: when a set has no labels to measure on.
        SettingsError: when `settings.primary_metric` is not a metric of the first set.
    """
    encode = TextVectors(encoder)
    metrics: dict[str, dict[str, Metric]] = {}
    summaries: dict[str, SetEvaluation] = {}
    texts: set[str] = set()
    for frozen in sets:
        if frozen.made_for is not None:
            measured_one = measure_one(frozen, encode, settings, frozen.made_for)
            metrics[frozen.name] = {frozen.made_for: measured_one}
            summaries[frozen.name] = _made_set(frozen, measured_one, settings)
            continue
        measured = measure(frozen, encode, settings)
        primary = PRIMARY_METRICS[frozen.kind] if summaries else primary_metric(frozen, settings)
        metrics[frozen.name] = measured
        summaries[frozen.name] = SetEvaluation(
            name=frozen.name,
            kind=frozen.kind.value,
            fingerprint=frozen.fingerprint,
            num_rows=frozen.rows.height,
            primary_metric=primary,
            metrics={name: _with_interval(metric, settings) for name, metric in measured.items()},
            slices=_slices(frozen, measured[primary], settings),
            robustness=_robustness(frozen, primary, encode, settings),
        )
        texts.update(frozen.texts())

    # A table holds documents: its space, its bias and its speed are those of documents.
    def as_documents(texts: Sequence[str]) -> Vectors:
        return encode(texts, Side.DOCUMENT)

    probed = sorted(texts)
    step = max(1, len(probed) // settings.num_geometry_texts)
    probed = [*probed[::step][: settings.num_geometry_texts], *PROBE_TEXTS]
    summary = EncoderEvaluation(
        model=encoder.model_id,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        sets=summaries,
        geometry=measure_geometry(as_documents(list(dict.fromkeys(probed)))),
        bias=measure_bias(as_documents, num_permutations=settings.num_permutations, seed=settings.seed)
        if settings.bias
        else [],
        speed=_speed(encoder, probed[: settings.speed_texts]) if settings.speed_texts else None,
    )
    return Evaluated(summary, metrics)


def _made_set(frozen: EvaluationSet, metric: Metric, settings: EvaluationSettings) -> SetEvaluation:
    """Summarize a set that was made by rule: one metric, and no further changes of its texts."""
    return SetEvaluation(
        name=frozen.name,
        kind=frozen.kind.value,
        fingerprint=frozen.fingerprint,
        num_rows=frozen.rows.height,
        primary_metric=metric.name,
        metrics={metric.name: _with_interval(metric, settings)},
        slices={},
        robustness={},
    )


def _with_interval(metric: Metric, settings: EvaluationSettings) -> MetricValue:
    bounds = interval(metric, num_resamples=settings.num_resamples, confidence=settings.confidence, seed=settings.seed)
    return MetricValue(value=bounds.value, low=bounds.low, high=bounds.high, num_rows=metric.num_rows)


def _slices(frozen: EvaluationSet, metric: Metric, settings: EvaluationSettings) -> dict[str, MetricValue]:
    """Measure on thirds by length and on the values of the slice columns.

    Some metrics are over queries, and a query may have several rows. Its first row decides which slices it is in.
    """
    rows = frozen.rows
    if metric.num_rows != rows.height:
        rows = rows.unique("anchor", keep="first", maintain_order=True)
    assert metric.num_rows == rows.height
    lengths = rows.select(pl.sum_horizontal(pl.col(name).str.len_chars() for name in TEXT_COLUMNS[frozen.kind]))
    order = np.argsort(lengths.to_series().to_numpy(), kind="stable")
    parts = {
        f"length: {name}": part
        for name, part in zip(("short", "middle", "long"), np.array_split(order, LENGTH_SLICES), strict=True)
    }
    for column in settings.slice_columns:
        for value in sorted(rows[column].cast(pl.String).drop_nulls().unique().to_list()):
            parts[f"{column}: {value}"] = np.flatnonzero((rows[column].cast(pl.String) == value).to_numpy())
    return {
        name: _with_interval(metric.on(index), settings)
        for name, index in parts.items()
        if len(index) >= settings.min_slice_rows
    }


def _robustness(
    frozen: EvaluationSet, primary: str, encode: TextVectors, settings: EvaluationSettings
) -> dict[str, MetricValue]:
    if not settings.perturbations:
        return {}
    column = PERTURBED_COLUMN[frozen.kind.value]
    clean = replace(frozen, rows=frozen.rows.head(ROBUSTNESS_ROWS))
    texts = clean.rows[column].to_list()
    variants = {"clean": clean} | {
        kind.value: clean.changed(column, perturb(texts, kind, seed=settings.seed)) for kind in settings.perturbations
    }
    # When each row has its own value, all variants are measured together, so that a probe is fitted once.
    stacked = replace(frozen, rows=pl.concat([variant.rows for variant in variants.values()]))
    if frozen.kind in RETRIEVED:
        by_variant = {name: measure_one(variant, encode, settings, primary) for name, variant in variants.items()}
    else:
        together = measure_one(stacked, encode, settings, primary)
        by_variant = {
            name: together.on(np.arange(at * len(texts), (at + 1) * len(texts))) for at, name in enumerate(variants)
        }
    return {name: _with_interval(metric, settings) for name, metric in by_variant.items()}


def _speed(encoder: SentenceEncoder, texts: list[str]) -> Speed:
    encoder.encode(texts[:32], side=Side.DOCUMENT)
    seconds = []
    for _ in range(SPEED_REPEATS):
        began = time.perf_counter()
        encoder.encode(texts, side=Side.DOCUMENT)
        seconds.append(time.perf_counter() - began)
    return Speed(num_texts=len(texts), texts_per_second=len(texts) / sorted(seconds)[SPEED_REPEATS // 2])
