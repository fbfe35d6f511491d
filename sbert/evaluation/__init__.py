"""What an encoder can do, in numbers with intervals: the same code, on the same frozen rows, for any encoder."""

from sbert.evaluation.evaluate import (
    EncoderEvaluation,
    Evaluated,
    MetricValue,
    SetEvaluation,
    TextVectors,
    evaluate,
    primary_metric,
)
from sbert.evaluation.metric import Interval, Metric, difference_interval, interval
from sbert.evaluation.sets import HELD_OUT, EvaluationSet, frozen_set
from sbert.evaluation.settings import EvaluationSettings, Perturbation

__all__ = [
    "HELD_OUT",
    "EncoderEvaluation",
    "Evaluated",
    "EvaluationSet",
    "EvaluationSettings",
    "Interval",
    "Metric",
    "MetricValue",
    "Perturbation",
    "SetEvaluation",
    "TextVectors",
    "difference_interval",
    "evaluate",
    "frozen_set",
    "interval",
    "primary_metric",
]
