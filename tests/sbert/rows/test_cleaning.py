"""Cleaning: each rule, its reasons, idempotence, and the hash."""

import html

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sbert.rows import cleaning
from sbert.rows.cleaning import CleaningSettings, clean, clean_texts, hash_texts

OFF = CleaningSettings(unicode_form=None, strip_control_characters=False, strip_html=False, collapse_whitespace=False)


def cleaned(text: str, **options: object) -> str:
    return clean_texts(pl.Series([text]), CleaningSettings(**options))[0]  # type: ignore[arg-type, no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\t\twords \n", "two words"),
        ("non\u00a0breaking\u2003space", "non breaking space"),
        ("e\u0301", "\u00e9"),
        ("nul\x00 bell\x07 soft\u00adhyphen zero\u200bwidth bom\ufeff", "nul bell softhyphen zerowidth bom"),
        ("family: \U0001f468\u200d\U0001f469\u200d\U0001f467", "family: \U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("<p>One<br/>two</p><b>th</b>ree", "One two three"),
        ("<a href=\"x>y\">link</a> <img src='a' />end", "link end"),
        ("a<script>evil()</script>b<style>p{}</style>c<!-- note -->d", "a b c d"),
        ("vector<int> and <module> and a < b > c", "vector<int> and <module> and a < b > c"),
        ("caf&eacute; &amp; &#8364; &#x27;q&#x27; &unknown;", "caf\u00e9 & \u20ac 'q' &unknown;"),
        ("&amp;lt;b&amp;gt;bold", "bold"),
        ("", ""),
    ],
)
def test_the_default_rules_change_a_text_as_written_here(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_masks_are_off_by_default() -> None:
    text = "see https://a.example/x?y=1, or mail jo.doe@mail.example.org."
    assert cleaned(text) == text
    assert cleaned(text, mask_urls=True, mask_emails=True) == "see [URL], or mail [EMAIL]."


def test_every_rule_can_be_switched_off() -> None:
    text = " e\u0301 <b>x</b>&amp;\x07  y "
    assert clean_texts(pl.Series([text]), OFF)[0] == text


def test_compatibility_characters_are_resolved_by_nfkc_only() -> None:
    assert cleaned("\ufb01 \u2460") == "\ufb01 \u2460"
    assert cleaned("\ufb01 \u2460", unicode_form="NFKC") == "fi 1"


MARKUP = st.text(alphabet="<>&;#/!-\"'=abltpgmxsci0 1@.:\u0301e\u200b\u00a0w[]URLh", max_size=40)
ESCAPED = st.builds(lambda text, times: text if not times else escaped(text, times), MARKUP, st.integers(0, 3))


def escaped(text: str, times: int) -> str:
    for _ in range(times):
        text = html.escape(text)
    return text


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.one_of(st.text(max_size=40), MARKUP, ESCAPED), min_size=1, max_size=8),
    form=st.sampled_from(["NFC", "NFKC", None]),
    flags=st.tuples(*[st.booleans()] * 5),
)
def test_cleaning_is_idempotent(texts: list[str], form: str | None, flags: tuple[bool, ...]) -> None:
    names = ("strip_control_characters", "strip_html", "collapse_whitespace", "mask_urls", "mask_emails")
    cleaning_settings = CleaningSettings(unicode_form=form, **dict(zip(names, flags, strict=True)))  # type: ignore[arg-type]
    original = pl.Series(texts, dtype=pl.String)
    once = clean_texts(original, cleaning_settings).to_list()
    assert original.to_list() == texts  # the input stays what it is
    assert clean_texts(pl.Series(once, dtype=pl.String), cleaning_settings).to_list() == once


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(
        st.one_of(st.text(max_size=20), st.text(alphabet=" aZ.:/@&<wW~K\u017f\u212a\x7f\n", max_size=12)), min_size=1
    ),
    form=st.sampled_from(["NFC", "NFKC", None]),
    masks=st.booleans(),
)
def test_texts_that_look_plain_are_changed_by_no_rule(texts: list[str], form: str | None, masks: bool) -> None:
    every = CleaningSettings(unicode_form=form, mask_urls=masks, mask_emails=masks)  # type: ignore[arg-type]
    series = pl.Series(texts, dtype=pl.String)
    plain = series.filter(~series.str.contains(cleaning.NOT_PLAIN))
    assert cleaning._once(plain, every).to_list() == plain.to_list()


def rows(*texts: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "source": ["s"] * len(texts),
            "row": range(1, len(texts) + 1),
            "id": [str(n) for n in range(len(texts))],
            "text": texts,
            "kept:n": range(len(texts)),
        }
    )


def test_rejected_rows_have_a_reason_and_their_original() -> None:
    block = clean(rows("fine text", " <p></p> ", "ab", "x" * 20), CleaningSettings(min_chars=3, max_chars=10))
    assert block.rows["id"].to_list() == ["0"]
    assert block.rejects.select("row", "reason", "detail").rows() == [
        (2, "empty_text", "0 characters after cleaning, at least 3 are needed"),
        (3, "too_short", "2 characters after cleaning, at least 3 are needed"),
        (4, "too_long", "20 characters after cleaning, at most 10 are allowed"),
    ]
    assert block.rejects["original"][1] == b'{"id":"2","n":"2","text":"ab"}'


def test_a_block_without_rows_keeps_its_schema() -> None:
    block = clean(rows("x").clear(), CleaningSettings())
    assert block.rows.height == 0
    assert block.rejects.height == 0
    assert block.rows.schema["text_hash"] == pl.Binary


def test_hash_is_the_beginning_of_blake3() -> None:
    # test vector of the BLAKE3 reference: the empty input
    assert hash_texts(pl.Series([""]))[0].hex() == "af1349b9f5f9a1a6a0404dea36dcc949"
    first, second = hash_texts(pl.Series(["a", "b"])).to_list()
    assert len(first) == 16
    assert first != second


def test_texts_that_are_equal_after_cleaning_have_one_hash() -> None:
    block = clean(rows("caf\u00e9", "cafe\u0301 "), CleaningSettings())
    assert block.rows["text_hash"].n_unique() == 1


def test_limits_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_chars is 2, below min_chars 5"):
        CleaningSettings(min_chars=5, max_chars=2)
