"""Documents become passages: how long they are, where they are cut, and how far an edit reaches."""

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.rows.cleaning import CleaningSettings
from sbert.source.passages.cutter import PassageCutter, TokenCounter
from sbert.source.passages.outline import OUTLINE
from sbert.source.passages.settings import PassageSettings

SPECIAL_TOKENS = 2
WORDS = [f"w{number}" for number in range(400)]

ARTICLE = """\
# Pumps

Pumps move water. They need power, e.g. from Dr. Smith's grid.

## Care

### Oil
Change the oil. Use grade 5.

## Parts
"""


def count_words(texts: list[str]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.array([len(text.split()) for text in texts], dtype=np.int64)


def cut(text: str | list[str], max_tokens: int = 32, outlines: list[Any] | None = None, **options: Any) -> pl.DataFrame:
    """Cut documents, with a word for a token."""
    texts = [text] if isinstance(text, str) else text
    documents = pl.DataFrame({"id": [f"d{number}" for number in range(len(texts))], "text": texts})
    if outlines is not None:
        documents = documents.with_columns(outline=pl.Series(outlines, dtype=OUTLINE))
    cutter = PassageCutter(
        PassageSettings(**options), CleaningSettings(), TokenCounter(count_words, max_tokens, SPECIAL_TOKENS)
    )
    return cutter.cut(documents, "")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return different sentences of 4 to 12 words."""
    chance = random.Random(seed)
    return [f"S{number} {' '.join(chance.choices(WORDS, k=chance.randint(3, 11)))}." for number in range(count)]


def num_new(before: str, after: str, **options: Any) -> int:
    """Return how many passages of a document are not passages of an earlier one."""
    return len(set(cut(after, **options)["text"]) - set(cut(before, **options)["text"]))


def test_each_passage_is_the_text_between_its_two_places() -> None:
    text = " ".join(sentences(200))
    passages = cut(text)
    assert [text[start:end] for start, end in passages.select("start", "end").iter_rows()] == passages[
        "passage"
    ].to_list()
    assert passages["id"].to_list() == [f"d0#{number}" for number in range(1, passages.height + 1)]
    assert passages["document_id"].unique().to_list() == ["d0"]


def test_passages_keep_whole_sentences_and_the_limit() -> None:
    original = sentences(300)
    passages = cut(" ".join(original))
    assert passages["passage"].str.ends_with(".").all()
    assert passages["passage"].str.starts_with("S").all()
    sizes = count_words(passages["passage"].to_list())
    assert sizes.max() <= 32 - SPECIAL_TOKENS
    assert sizes.mean() > 0.5 * 32
    assert " ".join(passages["passage"]) == " ".join(original)


@given(st.lists(st.text(alphabet="aB .!?\n#-é。1|", max_size=80), min_size=1, max_size=4), st.sampled_from([16, 24]))
@settings(max_examples=60, deadline=None)
def test_nothing_but_white_space_and_headings_is_lost(texts: list[str], max_tokens: int) -> None:
    passages = cut(texts, max_tokens, with_headings=False)
    for number, text in enumerate(texts):
        own = passages.filter(pl.col("document_id") == f"d{number}")
        assert "".join("".join(own["passage"]).split()) == "".join(text.split())


@pytest.mark.parametrize("place", [3, 120, 399])
def test_a_changed_sentence_changes_at_most_three_passages(place: int) -> None:
    original = sentences(400)
    changed = [*original[:place], "Here is another sentence instead.", *original[place + 1 :]]
    assert cut(" ".join(original)).height >= 100
    assert 1 <= num_new(" ".join(original), " ".join(changed)) <= 3


def test_edits_change_fewer_than_two_passages_on_average() -> None:
    original = sentences(200)
    before = set(cut(" ".join(original))["text"])
    costs = [
        len(set(cut(" ".join([*original[:place], "Something new is here.", *original[place + 1 :]]))["text"]) - before)
        for place in range(0, 200, 5)
    ]
    assert np.mean(costs) < 2


def test_a_paragraph_at_the_top_changes_at_most_three_passages() -> None:
    paragraphs = [" ".join(sentences(6, seed)) for seed in range(100)]
    text = "\n\n".join(paragraphs)
    assert num_new(text, "A new paragraph. It has two sentences.\n\n" + text) <= 3


def test_a_document_is_cut_the_same_whatever_lies_beside_it() -> None:
    one, other = " ".join(sentences(50, 1)), " ".join(sentences(70, 2))
    together = cut([other, one, "", other])
    alone = cut(one)
    assert together.filter(document_id="d1")["text"].to_list() == alone["text"].to_list()


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    text = "Start here. " + " ".join(WORDS[:100]) + " end. Last one."
    passages = cut(text)
    assert " ".join(passages["passage"]).split() == text.split()
    assert passages["passage"][0].startswith("Start here.")


def test_a_word_of_100000_characters_is_cut() -> None:
    passages = cut("x" * 100_000)
    assert passages.height > 10
    assert "".join(passages["passage"]) == "x" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "He met Dr. Smith and J. R. Jones. Then he left.",
        "It works, e.g. at night. Then it stops.",
        "There are approx. five of them. More will come.",
    ],
)
def test_an_abbreviation_ends_no_sentence(text: str) -> None:
    first, second = text[: text.rindex(". ") + 1], text[text.rindex(". ") + 2 :]
    filler = " ".join(sentences(1)) + "\n\n"
    passages = cut(filler + text, 16 if len(first.split()) > 8 else 12, by="sentences")["passage"].to_list()
    joined = [passage for passage in passages if second in passage or first in passage]
    assert joined
    assert not any(passage.endswith(("Dr.", "J.", "R.", "e.g.", "approx.")) for passage in passages)


def test_sections_begin_a_passage_and_show_their_path() -> None:
    passages = cut(ARTICLE)
    assert passages["headings"].to_list() == ["Pumps", "Pumps > Care > Oil", "Pumps > Parts"]
    assert passages["passage"].to_list() == [
        "Pumps move water. They need power, e.g. from Dr. Smith's grid.",
        "Change the oil. Use grade 5.",
        "",
    ]
    assert passages["text"][1] == "Pumps > Care > Oil\nChange the oil. Use grade 5."


def test_without_headings_before_it_a_passage_is_as_the_document_has_it() -> None:
    passages = cut(ARTICLE, with_headings=False)
    assert passages["text"].to_list() == passages["passage"].to_list()
    assert passages["passage"][1].startswith("## Care\n\n### Oil\nChange")


def test_short_sections_share_a_passage_when_cut_by_paragraphs() -> None:
    assert cut(ARTICLE, 64, by="paragraphs").height == 1


def test_a_paragraph_is_cut_only_when_it_is_too_long() -> None:
    paragraphs = [" ".join(sentences(2, seed)) for seed in range(40)]
    passages = cut("\n\n".join(paragraphs), by="paragraphs")["passage"].to_list()
    assert all(any(passage.endswith(paragraph) for paragraph in paragraphs) for passage in passages)


def test_a_comment_in_code_is_no_heading() -> None:
    assert cut("# Real\n\ntext\n\n```\n# no heading\n```\n\nmore")["headings"].to_list() == ["Real"]


def test_passages_repeat_the_end_of_the_one_before() -> None:
    original = sentences(100)
    passages = cut(" ".join(original), 64, overlap_tokens=20)
    starts, ends = passages["start"].to_list(), passages["end"].to_list()
    overlapping = [start < end for start, end in zip(starts[1:], ends[:-1], strict=True)]
    assert all(overlapping)
    assert passages["passage"].str.starts_with("S").all()
    assert count_words(passages["passage"].to_list()).max() <= 62


def test_a_sentence_is_not_cut_to_make_room_for_what_is_repeated() -> None:
    long = " ".join(["Long", *WORDS[:25]]) + "."
    passages = cut(f"One two three. Four five. {long} And five more words here.", 32, overlap_tokens=12)
    assert passages["passage"].to_list() == [
        "One two three. Four five.",
        f"Four five. {long}",
        "And five more words here.",
    ]
    assert count_words(passages["passage"].to_list()).max() <= 30


def test_a_path_that_leaves_too_little_room_is_left_out() -> None:
    title = " ".join(WORDS[:20])
    outline = [{"start": 0, "end": len(title), "level": 1, "title": title}]
    passages = cut(f"{title}\nShort text.", outlines=[outline])
    assert passages["headings"].to_list() == [title]
    assert passages["text"].to_list() == ["Short text."]


def test_the_outline_that_a_format_gives_replaces_markdown() -> None:
    passages = cut("# one\ntwo", outlines=[[]])
    assert passages["headings"].to_list() == [None]
    assert passages["text"].to_list() == ["# one\ntwo"]


def test_the_page_is_that_on_which_the_passage_begins() -> None:
    original = sentences(40)
    text = " ".join(original[:20]) + "\n" + " ".join(original[20:])
    middle = text.index(original[20])
    pages = [
        {"start": 0, "end": 0, "level": 0, "title": "1"},
        {"start": middle, "end": middle, "level": 0, "title": "2"},
    ]
    documents = pl.DataFrame({"id": ["d"], "text": [text], "page": [1]}, schema_overrides={"page": pl.Int64})
    documents = documents.with_columns(outline=pl.Series([pages], dtype=OUTLINE))
    passages = PassageCutter(PassageSettings(), CleaningSettings(), TokenCounter(count_words, 32, 2)).cut(documents, "")
    assert passages.filter(pl.col("start") < middle)["page"].unique().to_list() == [1]
    assert passages.filter(pl.col("start") >= middle)["page"].unique().to_list() == [2]


def test_a_document_without_pages_keeps_its_value_beside_one_that_has_pages() -> None:
    mark = {"start": 0, "end": 0, "level": 0, "title": "3"}
    documents = pl.DataFrame(
        {"id": list("abc"), "text": ["No page.", "A page.", "No page either."], "page": [None, 1, 7]},
        schema_overrides={"page": pl.Int64},
    ).with_columns(outline=pl.Series([[], [mark], []], dtype=OUTLINE))
    passages = PassageCutter(PassageSettings(), CleaningSettings(), TokenCounter(count_words, 32, 2)).cut(documents, "")
    assert passages["page"].to_list() == [None, 3, 7]


def test_a_text_that_repeats_itself_is_cut_into_passages_of_use() -> None:
    sizes = count_words(cut("Over and over again. " * 2_000)["passage"].to_list())
    assert sizes.max() <= 30
    assert sizes.mean() > 10


def test_no_documents_give_no_passages() -> None:
    assert cut([]).height == 0
