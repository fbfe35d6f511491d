"""Terms of texts, in scripts with and without spaces."""

import polars as pl
import pytest

from sbert.index.words.terms import terms_of


def terms(text: str | None) -> list[str]:
    return list(terms_of(pl.Series([text], dtype=pl.String))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reset MY password!", ["reset", "my", "password"]),
        ("Don't, isn\u2019t", ["dont", "isnt"]),
        ("Zürich Ёлка", ["zurich", "елка"]),
        ("order PR-1042 twice", ["order", "pr", "1042", "pr-1042", "twice"]),
        ("co-operate foo_bar", ["co", "operate", "foo", "bar"]),
        ("\ufb01ne \uff12\uff10", ["fine", "20"]),
        ("东京大学 in 2020年", ["东京", "京大", "大学", "in", "2020", "年"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("字", ["字"]),
        ("?! 🏳️", []),
        ("", []),
        (None, []),
    ],
)
def test_a_text_is_cut_into_its_terms(text: str | None, expected: list[str]) -> None:
    all_terms = terms(text)
    assert [term for term in all_terms if term.strip("\ufe0f")] == expected


def test_a_text_has_the_same_terms_whatever_stands_beside_it() -> None:
    texts = ["red PR-1 东京", None, "", "green", "京都 and v1.2"]
    together = terms_of(pl.Series(texts, dtype=pl.String)).to_list()
    assert together == [terms(text) for text in texts]


def test_accents_stay_where_words_are_shown() -> None:
    assert terms_of(pl.Series(["Zürich"]), fold_accents=False).to_list() == [["zürich"]]
