"""Every kind of labels has an entry in each table of kinds, so that a new kind is not taken for another one."""

from sbert.evaluation.evaluate import PERTURBED_COLUMN
from sbert.evaluation.label_metrics import MEASURES, PRIMARY_METRICS
from sbert.labels.label_kinds import COLUMNS, KEY_COLUMNS, TEXT_COLUMNS, LabelKind
from sbert.training.settings import Objective
from sbert.training.training_data import ALLOWED, DEFAULT_OBJECTIVES

KINDS = set(LabelKind)
MEASURED = KINDS - {LabelKind.TEXTS}
"""Kinds that an encoder can be measured on: texts alone have no labels."""


def test_every_kind_has_columns_and_an_objective_that_learns_from_it() -> None:
    assert COLUMNS.keys() == KINDS
    assert TEXT_COLUMNS.keys() == KINDS
    assert KEY_COLUMNS.keys() == KINDS
    assert DEFAULT_OBJECTIVES.keys() == KINDS
    assert [kind for kind, objective in DEFAULT_OBJECTIVES.items() if kind not in ALLOWED[objective]] == []


def test_every_kind_but_texts_has_metrics_a_primary_metric_and_a_column_to_perturb() -> None:
    assert MEASURES.keys() == MEASURED
    assert PRIMARY_METRICS.keys() == MEASURED
    assert set(PERTURBED_COLUMN) == {kind.value for kind in MEASURED}


def test_every_objective_says_the_kinds_that_it_learns_from() -> None:
    assert ALLOWED.keys() == set(Objective)
