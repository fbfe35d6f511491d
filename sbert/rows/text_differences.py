"""Find the differences that vectors overlook: numbers, names and negations of two texts.

>>> from sbert.rows.text_differences import differences
>>> [(found.kind.value, found.left, found.right) for found in differences("It opens at 9.", "It does not open at 10.")]
[('number', ('9',), ('10',)), ('negation', (), ('not',))]

The vectors of "The flight leaves at 9" and "The flight leaves at 10" are nearly equal, and so are those of a sentence and
its negation. The rules here read the words. They need no model and no language setting: numbers are read in figures, and
in English in words; a name is a word with a capital letter that does not begin a sentence; negations are known in English,
German, Dutch, French, Spanish, Italian, Portuguese and Chinese. German writes every noun with a capital letter, so every
German noun counts as a name.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum

__all__ = ["Difference", "DifferenceKind", "TextFacts", "compare_facts", "differences", "has_conflict", "text_facts"]

MAX_CHARACTERS = 20_000
"""Characters of a text that are read."""
TITLE_CASE_SHARE = 0.6
"""Above this share of words with a capital letter, capitals say nothing: a headline, or a text in capitals."""

STRAIGHT = str.maketrans({"\u2019": "'", "\u2018": "'", "\u2212": "-"})
"""Curved apostrophes and the minus sign, in the form that the patterns know."""
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
NUMBER = re.compile(r"(?<![\w.,])(?P<sign>-)?(?P<code>[^\W\d_]+-?)?(?P<value>\d+(?:[.,']\d+)*)(?P<unit>[^\W\d_]*)")
SENTENCE_MARKS = '.!?:;([*\n"\u2026\u3002\uff01\uff1f\u201c\u201d\u201e\u00ab\u00bb\u2022'
"""A word after one of these marks may have its capital letter for that."""
# fmt: off
SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NEGATIONS = frozenset({
    "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "without", "cannot", "cant", "dont",
    "doesnt", "didnt", "isnt", "arent", "wasnt", "werent", "wont", "wouldnt", "shouldnt", "couldnt", "hasnt", "havent",
    "hadnt", "aint",
    "nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals", "niemand", "nichts", "ohne",
    "weder", "niet", "geen", "nooit", "niets", "zonder",
    "pas", "jamais", "rien", "aucun", "aucune", "sans", "nunca", "nadie", "nada", "ningún", "ninguno", "ninguna",
    "sin", "jamás", "non", "mai", "nessuno", "nessuna", "niente", "senza", "não", "ninguém", "nenhum",
    "nenhuma", "sem",
})
"""French ``ne`` and ``n'`` are left out: ``ne … pas`` is one negation."""
# fmt: on
NUMBER_WORDS = {word: number for number, word in enumerate(SMALL) if word != "one"} | {
    word: 10 * number for number, word in enumerate(TENS, start=2)
}
"""Without "one", which is mostly a pronoun."""
SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SHORT_SCALES = {"k": 1_000, "m": 10**6, "mn": 10**6, "bn": 10**9}
"""Scales that may follow a number without a space, if it is an amount of money."""
SHORT_NEGATION = re.compile("n't$")
CHINESE_NEGATION = re.compile("[不没沒未]")
NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "mis")


class DifferenceKind(StrEnum):
    """Kind of a difference between two texts."""

    NUMBER = "number"
    """A number, a date, an amount, or a code that holds digits."""
    NAME = "name"
    """A word with a capital letter that the other text does not hold in any spelling."""
    NEGATION = "negation"
    """One text denies what the other says."""


@dataclass(frozen=True)
class Difference:
    """One kind of difference between two texts."""

    kind: DifferenceKind
    left: tuple[str, ...]
    """Expressions that only the left text holds, in alphabetical order."""
    right: tuple[str, ...]
    """Expressions that only the right text holds, in alphabetical order."""

    @property
    def is_conflict(self) -> bool:
        """Return whether both cannot say the same: each has its own number or name, or just one is negated.

        A number or a name that only one of them holds is more detail, not a conflict.
        """
        return self.kind is DifferenceKind.NEGATION or bool(self.left and self.right)


@dataclass(frozen=True)
class TextFacts:
    """The numbers, names and negations of one text: what `differences` compares."""

    numbers: frozenset[str]
    """Numbers in one spelling (``1,000.0`` and ``1000`` are both ``1000``), and codes in lower case."""
    names: frozenset[str]
    """Names in lower case."""
    words: frozenset[str]
    """All words in lower case."""
    negations: tuple[str, ...]
    """Negating words in lower case, in alphabetical order; a word that occurs twice is there twice."""


def differences(left: str, right: str) -> tuple[Difference, ...]:
    """Return the numbers, names and negations in which two texts differ, in this order; empty when there are none."""
    return compare_facts(text_facts(left), text_facts(right))


def has_conflict(left: TextFacts, right: TextFacts) -> bool:
    """Return whether two texts cannot say the same: see `Difference.is_conflict`."""
    return any(difference.is_conflict for difference in compare_facts(left, right))


def text_facts(text: str) -> TextFacts:
    """Return the facts of one text, so that many pairs of texts are compared without reading each text again."""
    text = text[:MAX_CHARACTERS].translate(STRAIGHT)
    words = [match.group().lower() for match in WORD.finditer(text)]
    return TextFacts(
        numbers=frozenset(_numbers(text)),
        names=frozenset(_names(text)),
        words=frozenset(form for word in words for form in (word, _without_ending(word))),
        negations=tuple(sorted(_negations(text, words))),
    )


def compare_facts(left: TextFacts, right: TextFacts) -> tuple[Difference, ...]:
    """Return the differences between two texts of which the facts are known."""
    numbers = Difference(
        DifferenceKind.NUMBER, _sorted(left.numbers - right.numbers), _sorted(right.numbers - left.numbers)
    )
    names = Difference(DifferenceKind.NAME, _sorted(left.names - right.words), _sorted(right.names - left.words))
    differences = [difference for difference in (numbers, names) if difference.left or difference.right]
    negation = _negation_difference(left, right)
    return (*differences, negation) if negation else tuple(differences)


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(values))


def _numbers(text: str) -> list[str]:
    numbers: list[str] = []
    for match in NUMBER.finditer(text):
        code, value, unit = match["code"], match["value"], match["unit"].lower()
        if code and not code.endswith("-"):
            numbers.append(f"{code}{value}{unit}".lower())
            continue
        scale, is_money = SCALES.get(_word_after(text, match.end()), 1), text[: match.start("value")][-1:] in "$€£¥"
        if is_money:
            scale = max(scale, SHORT_SCALES.get(unit, 1))
        numbers += [_spelled(part, scale, match["sign"]) for part in _plain(value)]
    return [*numbers, *_numbers_in_words(text)]


def _plain(value: str) -> list[str]:
    """Return a number as figures with a decimal point; more than one point in a date or a version."""
    value = value.replace("'", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", value):
        return [value.replace(",", "")]
    if re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,}", value):
        return [value.replace(".", "").replace(",", ".")]
    if re.fullmatch(r"\d+[.,]\d+", value):
        return [value.replace(",", ".")]
    return re.split("[.,]", value)


def _spelled(value: str, scale: int = 1, sign: str | None = None) -> str:
    try:
        number = Decimal(value) * scale
    except InvalidOperation:  # figures that Decimal does not know, or far too many of them
        return value
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"-{text}" if sign else text


def _word_after(text: str, end: int) -> str:
    match = re.match(r"[\s-]?([^\W\d_]+)", text[end : end + 16])
    return match.group(1).lower() if match else ""


def _numbers_in_words(text: str) -> list[str]:
    """Return the numbers that English words name: ``twenty-one``, ``two million``."""
    numbers: list[str] = []
    before = 0
    for match in WORD.finditer(text):
        word = match.group().lower()
        number = 1 if word == "one" and before in range(20, 100, 10) else NUMBER_WORDS.get(word)
        if number is not None and numbers and before in range(20, 100, 10) and 0 < number < 10:
            numbers[-1] = str(before + number)
            before = 0
        elif number is not None:
            numbers.append(str(number))
            before = number
        elif word in SCALES and before and numbers:
            numbers[-1] = _spelled(numbers[-1], SCALES[word])
            before = 0
        else:
            before = 0
    return numbers


def _names(text: str) -> list[str]:
    words = [match for match in WORD.finditer(text) if len(match.group()) > 1]
    num_capital = sum(match.group()[0].isupper() for match in words)
    if len(words) >= 4 and num_capital > TITLE_CASE_SHARE * len(words):
        return []
    names = [
        _without_ending(match.group().lower())
        for match in words
        if any(character.isupper() for character in match.group()[1:])
        or (match.group()[0].isupper() and not _begins_sentence(text, match.start()))
    ]
    return [name for name in names if name not in NEGATIONS]


def _begins_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - 8) : start].rstrip(" \t'-")
    return not before or before[-1] in SENTENCE_MARKS


def _without_ending(word: str) -> str:
    """Return a word without ``'s``, and without ``'ll`` and the like."""
    return word.split("'", maxsplit=1)[0] if "'" in word and not SHORT_NEGATION.search(word) else word


def _negations(text: str, words: list[str]) -> list[str]:
    negations = [word for word in words if word in NEGATIONS or SHORT_NEGATION.search(word)]
    num_ordinal = len(re.findall(r"\b[Nn]o\.? ?\d", text))  # "No. 5" is a number
    for _ in range(min(num_ordinal, negations.count("no"))):
        negations.remove("no")
    return [*negations, *CHINESE_NEGATION.findall(text)]


def _negation_difference(left: TextFacts, right: TextFacts) -> Difference | None:
    """Return which negations one text has more of; the same number of negations in other words is no difference."""
    left_prefixed = _negated_by_prefix(left.words, right.words)
    right_prefixed = _negated_by_prefix(right.words, left.words)
    balance = len(left.negations) + len(left_prefixed) - len(right.negations) - len(right_prefixed)
    if balance == 0:
        return None
    left_counts, right_counts = Counter(left.negations), Counter(right.negations)
    return Difference(
        DifferenceKind.NEGATION,
        _sorted([*(left_counts - right_counts).elements(), *left_prefixed]) if balance > 0 else (),
        _sorted([*(right_counts - left_counts).elements(), *right_prefixed]) if balance < 0 else (),
    )


def _negated_by_prefix(words: frozenset[str], others: frozenset[str]) -> list[str]:
    """Return the words that are a word of the other text with a negating prefix: ``unable`` where it says ``able``."""
    plain = others - words
    return [
        word
        for word in words - others
        for prefix in NEGATING_PREFIXES
        if word.startswith(prefix) and len(word) > len(prefix) + 2 and word.removeprefix(prefix) in plain
    ]
