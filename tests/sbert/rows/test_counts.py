"""Row counts add up, or nothing is published."""

import pytest

from sbert.errors import AccountingError
from sbert.rows.counts import RowCounts


def test_total_adds_every_count_and_every_reason() -> None:
    first = RowCounts(
        num_rows_read=5,
        num_rows_encoded=3,
        num_texts_encoded=2,
        num_rows_rejected=2,
        rejects_by_reason={"a": 2},
    )
    second = RowCounts(num_rows_read=4, num_rows_carried=3, num_rows_rejected=1, rejects_by_reason={"b": 1})
    total = RowCounts.total([first, second])
    assert total == RowCounts(
        num_rows_read=9,
        num_rows_encoded=3,
        num_texts_encoded=2,
        num_rows_carried=3,
        num_rows_rejected=3,
        rejects_by_reason={"a": 2, "b": 1},
    )
    assert total.check("run") is total
    assert total.num_rows_written == 6


def test_the_total_of_no_counts_is_zero() -> None:
    assert RowCounts.total([]).check("run") == RowCounts()


def test_a_lost_row_is_an_error_with_both_numbers() -> None:
    with pytest.raises(AccountingError, match=r"tickets.jsonl: 10 rows were read but 9 are accounted for"):
        RowCounts(num_rows_read=10, num_rows_encoded=9).check("tickets.jsonl")


def test_a_rejected_row_without_reason_is_an_error() -> None:
    with pytest.raises(AccountingError, match=r"2 rows were rejected but 1 have a reason"):
        RowCounts(num_rows_read=2, num_rows_rejected=2, rejects_by_reason={"a": 1}).check("x")
