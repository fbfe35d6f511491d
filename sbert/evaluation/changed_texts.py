"""Change a text by rule, so that its meaning changes or stays: negate it, change a number, say the same in other words.

>>> from sbert.evaluation.changed_texts import change_number, negate, reword
>>> negate("The card is accepted in 30 countries.", seed=0)
'The card is not accepted in 30 countries.'
>>> change_number("The card is accepted in 30 countries.", seed=0)
'The card is accepted in 26 countries.'
>>> reword("The card is accepted in 30 countries.", seed=0)
'As was mentioned before, the card is accepted in 30 countries.'

A changed text is returned only if the rules of `sbert.rows.text_differences`, which warn people, see the difference. The
change depends only on the text and the seed. Negations and rewordings are English; numbers are changed in any language.
"""

import random
import re
from collections.abc import Callable, Iterable

from sbert.rows.text_differences import NUMBER, STRAIGHT, WORD, DifferenceKind, differences, text_facts

__all__ = ["OPENINGS", "REHEARSAL_OPENINGS", "change_number", "contrasts", "negate", "reword"]

AUXILIARY = re.compile(
    r"(?<!^)\b(?:is|are|was|were|am|will|can|could|should|would|must|may|might|has|have|had|does|did)\b(?!')"
)
ASKED = re.compile(r"\s+(?:I|you|he|she|it|we|they|there|this|that|my|your)\b", re.IGNORECASE)
"""After an auxiliary in a text that ends with a question mark, these begin what is asked ("How long will it take?")."""
QUESTION_WORDS = frozenset({"how", "what", "why", "when", "where", "who", "which", "whom", "whose", "and", "or"})
"""Before an auxiliary they begin a question, whose negation often asks the same ("Why can I", "Why can I not")."""
NOT = re.compile(r"(?<=\w) not\b|(?<=can)not\b", re.IGNORECASE)
SHORT_NOT = re.compile(r"\b(\w+)n't\b", re.IGNORECASE)
IRREGULAR = {"ca": "can", "wo": "will", "sha": "shall", "ai": "am"}
"""Auxiliaries that change before ``n't``."""
SMALL = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_DIGITS = 9
OPENINGS = (
    "Just to be clear, {}",
    "As far as we know, {}",
    "To put it in other words, {}",
    "We would like to say that {}",
    "It should be said that {}",
    "As was mentioned before, {}",
    "Let us say it once more: {}",
    "For your information: {}",
)
"""Openings that leave the meaning as it is, and change more words than a negation or another number does."""
REHEARSAL_OPENINGS = (
    "In short: {}",
    "We have heard that {}",
    "To say it again, {}",
    "They told us that {}",
    "Once again, {}",
    "Please note that {}",
    "In this case, {}",
    "It was written somewhere that {}",
)
"""Other openings, for rows that training keeps a skill by: what is measured is not rehearsed."""


def negate(text: str, *, seed: int) -> str | None:
    """Return the text with the opposite meaning: a "not" more, or its only "not" less. None where no rule fits."""
    text = text.translate(STRAIGHT)
    negations = text_facts(text).negations
    changed = _without_not(text) if len(negations) == 1 else None if negations else _with_not(text, _chance(text, seed))
    return changed if changed and _differ(text, changed, DifferenceKind.NEGATION) else None


def change_number(text: str, *, seed: int) -> str | None:
    """Return the text with one number changed into another of as many figures. None where it has no number."""
    text, chance = text.translate(STRAIGHT), _chance(text, seed)
    spans = [
        (match.start("value"), match.end("value"))
        for match in NUMBER.finditer(text)
        if match["value"].isdecimal() and len(match["value"]) <= MAX_DIGITS and match["value"].isascii()
    ]
    spans += [match.span() for match in WORD.finditer(text) if match.group().lower() in SMALL]
    if not spans:
        return None
    start, end = chance.choice(spans)
    other = _other_number(text[start:end], chance)
    changed = f"{text[:start]}{other}{text[end:]}"
    return changed if _differ(text, changed, DifferenceKind.NUMBER) else None


def contrasts(
    texts: Iterable[str],
    change: Callable[..., str | None],
    num_texts: int,
    *,
    seed: int,
    openings: tuple[str, ...] = OPENINGS,
) -> list[tuple[str, str, str]]:
    """Return each text, the text in other words, and the changed text, until there are enough.

    Args:
        texts: texts; those that the rule cannot change are passed over.
        change: `negate` or `change_number`.
        num_texts: texts that are enough.
        seed: of the changes.
        openings: openings of the texts in other words.
    """
    rows: list[tuple[str, str, str]] = []
    for text in texts:
        if len(rows) == num_texts:
            break
        changed = change(text, seed=seed)
        if changed is not None:
            rows.append((text, reword(text, seed=seed, openings=openings), changed))
    return rows


def reword(text: str, *, seed: int, openings: tuple[str, ...] = OPENINGS) -> str:
    """Return the text with the same meaning, behind an opening that says nothing about the matter."""
    opening = _chance(text, seed).choice(openings)
    first = WORD.match(text)
    if first and first.group().istitle() and first.group() != "I" and not first.group().startswith("I'"):
        text = text[0].lower() + text[1:]
    return opening.format(text)


def _chance(text: str, seed: int) -> random.Random:
    return random.Random(f"{seed}|{text}")  # noqa: S311  (no secret)


def _with_not(text: str, chance: random.Random) -> str | None:
    places = [
        match.end()
        for match in AUXILIARY.finditer(text)
        if not _begins_question(text, match.start()) and not (text.endswith("?") and ASKED.match(text, match.end()))
    ]
    if not places:
        return None
    at = chance.choice(places)
    return f"{text[:at]} not{text[at:]}"


def _begins_question(text: str, start: int) -> bool:
    before = WORD.findall(text[:start])
    return not before or before[-1].lower() in QUESTION_WORDS or text[:start].rstrip()[-1:] in ".!?:;,\"'("


def _without_not(text: str) -> str | None:
    if NOT.search(text):
        return NOT.sub("", text, count=1)
    return SHORT_NOT.sub(lambda match: _whole_auxiliary(match.group(1)), text, count=1)


def _whole_auxiliary(short: str) -> str:
    whole = IRREGULAR.get(short.lower(), short.lower())
    return whole.capitalize() if short[0].isupper() else whole


def _other_number(value: str, chance: random.Random) -> str:
    if not value.isdecimal():
        other = chance.choice([word for word in SMALL if word != value.lower()])
        return other.capitalize() if value[0].isupper() else other
    least, most = (0, 9) if len(value) == 1 else (10 ** (len(value) - 1), 10 ** len(value) - 1)
    return str(chance.choice([number for number in chance.sample(range(least, most + 1), 2) if number != int(value)]))


def _differ(text: str, changed: str, kind: DifferenceKind) -> bool:
    return any(difference.kind is kind and difference.is_conflict for difference in differences(text, changed))
