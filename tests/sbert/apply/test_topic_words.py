"""Words that name groups of texts: no parts of URLs, no stop words of any language, and never no words at all."""

import numpy as np
import polars as pl
import pytest

from sbert.apply.grouped_words import choose_grouped_words
from sbert.apply.map.topics import name_groups
from sbert.apply.stop_words import english_stop_words, mark_stop_words
from sbert.apply.topics.telling_words import telling_words


def every_word(counts: pl.DataFrame) -> pl.DataFrame:
    """Rank words by their number."""
    return counts.sort(["count", "word"], descending=[True, False])


def words_in(*texts: str) -> list[str]:
    return choose_grouped_words(pl.Series(texts), np.zeros(len(texts), np.int64), every_word).get(0, [])


@pytest.mark.parametrize(
    "address",
    [
        "http://t.co/aBc123",
        "https://www.example.org/path?query=word#part",
        "www.example.org",
        "t.co/aBc123",
        "pic.twitter.com/xyz",
        "ftp://files.example.org",
        "https:",
        "http…",
        "someone.else@mail.example.org",
        "&amp;",
        "&#8217;",
    ],
)
def test_parts_of_addresses_are_no_words(address: str) -> None:
    assert words_in(f"refund {address} late") == ["late", "refund"]


def test_a_company_named_by_its_domain_and_prose_with_points_stay() -> None:
    assert words_in("amazon.com refund") == ["amazon", "refund"]
    assert words_in("http client refund", "os.path refund") == ["refund", "client", "http", "os", "path"]
    assert words_in("ASP.NET and Node.js") == ["asp", "js", "net", "node"]


def test_english_stop_words_are_left_out_and_words_of_subjects_stay() -> None:
    assert words_in("Why don't they pay the interest of my bill?") == ["bill", "interest", "pay"]
    assert {"the", "how", "dont", "im"} < english_stop_words()
    assert not {"bill", "interest", "system", "call"} & english_stop_words()


GERMAN = ("Wie kann ich die {} sehen", "Ich habe nicht die {} und das", "Das ist die {} wie ich habe", "Kann ich {}")
SUBJECTS = ("Karte verloren", "Überweisung dauert", "Gebühr bezahlt", "Passwort vergessen")


def test_words_that_most_groups_of_another_language_hold_are_its_stop_words() -> None:
    texts = pl.Series([form.format(subject) for subject in SUBJECTS for form in GERMAN])
    groups = np.repeat(np.arange(4), 4)
    words = telling_words(texts, groups)
    assert {number: set(of) for number, of in words.items()} == {
        number: set(subject.lower().split()) for number, subject in enumerate(SUBJECTS)
    }
    assert name_groups(texts, groups) == [
        "karte, verloren",
        "dauert, überweisung",
        "bezahlt, gebühr",
        "passwort, vergessen",
    ]


def test_words_of_a_subject_in_one_language_are_no_stop_words_of_the_other() -> None:
    """English groups hold "card" everywhere; the list knows English, so frequency decides nothing there."""
    english = [f"I would like to see the card of my {word}" for word in ("son", "wife", "dog")] * 4
    german = [form.format(subject) for subject in SUBJECTS[:2] for form in GERMAN]
    texts, groups = pl.Series(english + german), np.array([0] * 6 + [1] * 6 + [2] * 4 + [3] * 4)
    marked: dict[tuple[int, str], bool] = {}

    def keep(counts: pl.DataFrame) -> pl.DataFrame:
        marked.update({(row["group"], row["word"]): row["is_stop"] for row in counts.to_dicts()})
        return counts

    choose_grouped_words(texts, groups, keep)
    assert not marked[0, "card"]
    assert marked[0, "would"]
    assert marked[2, "ich"]
    assert not marked[2, "karte"]


def test_a_single_group_of_another_language_has_no_stop_words_by_frequency() -> None:
    counts = pl.DataFrame(
        {"group": [0, 0], "word": ["ich", "karte"], "count": [9, 9], "num_texts": [9, 9], "group_size": [9, 9]}
    )
    assert mark_stop_words(counts)["is_stop"].to_list() == [False, False]


def test_groups_of_nothing_but_stop_words_or_addresses_keep_their_names() -> None:
    texts = (
        ["to be or not to be"] * 4 + ["https://t.co/abc"] * 4 + [f"word{number} other{number}" for number in range(40)]
    )
    groups = np.array([0] * 4 + [1] * 4 + [2] * 40)
    names = name_groups(pl.Series(texts), groups)
    assert set(names[0].split(", ")) <= {"to", "be", "or", "not"}
    assert "https" in names[1].split(", ")
    words = telling_words(pl.Series(texts), groups)
    assert words[0]
    assert words[1]


def test_texts_without_any_word_leave_the_group_out() -> None:
    assert words_in("…", "12 345", None) == []  # type: ignore[arg-type]
