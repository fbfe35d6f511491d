"""A text that is no text is named with its place, before anything is tokenized."""

from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from sbert.encoder.tokenization.texts import as_list
from sbert.errors import SettingsError
from tests.support.tiny_models import tiny_encoder

SURROGATE = "half \ud83d"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([None, "a"], "text 0 is None, expected a string"),
        (["a", 1.5], "text 1 is of type float: '1.5', expected a string"),
        (["a", b"b"], "text 1 is of type bytes"),
        (["a", "é", SURROGATE], "text 2 is not valid Unicode: character 5 is U[+]D83D"),
        (pl.Series(["a", None]), "text 1 is None"),
        (pl.Series([1, 2]), "text 0 is of type int"),
        (pa.array(["a", "b", None]), "text 2 is None"),
        (pa.chunked_array([["a"], [None]]), "text 1 is None"),
        ("text", r"texts is one string, expected a list of strings: wrap it in \[ \]"),
        (None, "texts is of type NoneType"),
        (1.5, "texts is of type float"),
    ],
)
def test_a_text_that_is_none_is_named_with_its_place(texts: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        as_list(texts)


def test_encode_and_tokenize_check_texts_and_prompts() -> None:
    encoder = tiny_encoder()
    for call in (encoder.encode, encoder.tokenize):
        with pytest.raises(SettingsError, match="text 0 is None"):
            call([None, "a"])  # type: ignore[list-item]
        with pytest.raises(SettingsError, match="prompt is not valid Unicode"):
            call(["a"], prompt=SURROGATE)


@pytest.mark.parametrize(
    "texts",
    [["a", "é", "😀", ""], pl.Series(["a", "é", "😀", ""]), pa.array(["a", "é", "😀", ""]), iter(["a", "é", "😀", ""])],
    ids=["list", "Polars", "Arrow", "iterator"],
)
def test_texts_of_any_container_are_listed_in_order(texts: Any) -> None:
    assert as_list(texts) == ["a", "é", "😀", ""]


def test_no_texts_are_an_empty_list() -> None:
    assert as_list([]) == as_list(pl.Series([])) == as_list(pa.array([], pa.string())) == []
