"""Fixtures of all tests of training."""

import pytest

from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_labels


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pairs() -> LabelSet:
    return toy_labels(LabelKind.SCORED_PAIRS)
