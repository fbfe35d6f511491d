"""Tables made without an encoder, to index, and the comparison with exact search."""

from typing import Any

import numpy as np
import pytest

from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.table.delta import Table
from tests.support.made_tables import State, unit_vector

__all__ = ["NUM_ROWS", "assert_finds_what_exact_search_finds", "queries", "state_of"]

NUM_ROWS = 300


def state_of(*sources: int, num_rows: int = NUM_ROWS) -> State:
    return {f"s{number}": {str(row): number * 1_000 + row for row in range(num_rows)} for number in sources}


def queries(num: int = 20) -> Any:
    return np.array([unit_vector(500_000 + number) for number in range(num)])


def assert_finds_what_exact_search_finds(table: Table, where: str | None = None, least: float = 0.97) -> Any:
    """Compare the ten nearest rows of twenty queries, and their scores."""
    result = search_table(table, queries(), settings=SearchSettings(where=where))
    exact = search_table(table, queries(), settings=SearchSettings(where=where, exact=True))
    shares = []
    for number in range(20):
        scores = {(hit.source, hit.id): hit.score for hit in result.hits(number)}
        wanted = {(hit.source, hit.id): hit.score for hit in exact.hits(number)}
        assert len(scores) == len(wanted)
        shares.append(len(scores.keys() & wanted.keys()) / len(wanted) if wanted else 1)
        for key in scores.keys() & wanted.keys():
            assert scores[key] == pytest.approx(wanted[key], abs=1e-6)
    assert np.mean(shares) >= least
    return result
