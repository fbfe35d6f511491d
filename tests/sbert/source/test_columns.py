"""Names of columns in messages: quoted, with the names that were likely meant."""

import pytest

from sbert.source.formats.base import missing_column


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("text", ["id", " text"], "the columns are: 'id', ' text' (there is ' text', which differs in white space"),
        ("text", ["id", "Text"], "(there is 'Text', which differs in case: name it exactly so)"),
        ("text", ["TEXT ", "x"], "(there is 'TEXT ', which differs in case and white space"),
        ("boddy", ["id", "body", "lang"], "(nearest: 'body')"),
        ("zzz", ["id", "body"], "a.csv: no column 'zzz', the columns are: 'id', 'body'"),
        ("x", [], "the columns are: (none)"),
        ("text", ["a"], "the columns are: 'a': name the column that holds the text with text_column (--text-column)"),
    ],
)
def test_a_missing_column_is_named_with_the_likely_ones(name: str, columns: list[str], said: str) -> None:
    assert said in str(missing_column("a.csv", name, columns))


def test_of_many_columns_the_first_are_listed() -> None:
    message = str(missing_column("a.csv", "none", [f"c{number}" for number in range(500)]))
    assert message.endswith("and 470 more")
