"""Encoders are measured with the prompts that refresh and search use for the same texts."""

from dataclasses import replace

import polars as pl
import pytest

from sbert.evaluation.evaluate import TextVectors, evaluate
from sbert.evaluation.frozen_sets import EvaluationSet, frozen_set
from sbert.evaluation.label_metrics import PRIMARY_METRICS, measure
from sbert.evaluation.settings import EvaluationSettings
from sbert.labels.label_kinds import TEXT_COLUMNS, LabelKind, side_of
from tests.support.tiny_models import prompted_encoder
from tests.support.toy_training import toy_labels

QUICK = EvaluationSettings(num_resamples=100, num_permutations=100, speed_texts=0, min_test_rows=4, perturbations=())


def prefixed(evaluation_set: EvaluationSet) -> EvaluationSet:
    """Return a set whose texts carry the prompts of the prompted encoder already."""
    encoder = prompted_encoder()
    columns = [
        (encoder.prompt_for(side_of(name)) + pl.col(name)).alias(name) for name in TEXT_COLUMNS[evaluation_set.kind]
    ]
    return replace(
        evaluation_set, rows=evaluation_set.rows.with_columns(columns), train=evaluation_set.train.with_columns(columns)
    )


@pytest.mark.parametrize("kind", list(PRIMARY_METRICS))
def test_metrics_are_those_of_texts_that_carry_the_prompts(kind: LabelKind) -> None:
    evaluation_set = frozen_set(toy_labels(kind, 200), QUICK)
    plain = prompted_encoder()
    plain.prompts = {}
    metrics = measure(evaluation_set, TextVectors(prompted_encoder()), QUICK)
    expected = measure(prefixed(evaluation_set), TextVectors(plain), QUICK)
    assert {name: metric.value for name, metric in metrics.items()} == pytest.approx(
        {name: metric.value for name, metric in expected.items()}
    )
    without = measure(evaluation_set, TextVectors(plain), QUICK)
    assert any(metrics[name].value != pytest.approx(without[name].value) for name in metrics)


def test_the_shape_of_the_space_is_that_of_documents() -> None:
    encoder, plain = prompted_encoder(), prompted_encoder()
    plain.prompts = {"query": "red "}  # nothing before documents
    evaluation_set = frozen_set(toy_labels(LabelKind.CLASSES, 200), QUICK)
    prompted, without = (evaluate(each, [evaluation_set], QUICK).summary for each in (encoder, plain))
    assert prompted.geometry != without.geometry
    assert prompted.bias != without.bias
