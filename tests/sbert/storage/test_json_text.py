"""Every value becomes JSON that a strict parser reads."""

import datetime as dt
import json
from typing import Any

import pytest

from sbert.storage.json_text import json_text


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"price": float("nan")}, {"price": None}),
        ([float("inf"), -float("inf"), 1.5], [None, None, 1.5]),
        ({"nested": [{"deep": (float("nan"), 1)}]}, {"nested": [{"deep": [None, 1]}]}),
        ({"hash": b"\x01\xff"}, {"hash": "01ff"}),
        ({"day": dt.date(2026, 1, 2), "nan": float("nan")}, {"day": "2026-01-02", "nan": None}),
        ("𠮷", "𠮷"),
    ],
)
def test_values_that_json_lacks_are_replaced(value: Any, expected: Any) -> None:
    assert strict(json_text(value)) == expected
