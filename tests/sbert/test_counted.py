"""Numbers read as people write them."""

import pytest

from sbert.counted import counted, listed


@pytest.mark.parametrize(("number", "text"), [(0, "0 keys"), (1, "1 key"), (2_000, "2,000 keys")])
def test_one_thing_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "key") == text


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "version 0"), ([0, 2], "versions 0 and 2"), ([0, 2, 3], "versions 0, 2 and 3")]
)
def test_numbers_are_listed_after_their_noun(numbers: list[int], text: str) -> None:
    assert listed("version", numbers) == text
