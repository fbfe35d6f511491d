"""A light guess of a text's language, by its letters and by very common words; good for the language of a whole table."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

__all__ = ["guess_language", "majority"]

# fmt: off
COMMON = {
    "de": "der die das und ist nicht ich du er sie wir ein eine einen zu mit auf für dem den im von hat sich auch es war",
    "en": "the and is not of you he she we they it this that with for was are have has had be his her my your what",
    "es": "el la los las es no de que y en un una por con para se lo su mi yo tú él está muy más qué pero como son",
    "fr": "le la les est pas de des et que qui un une je tu il elle nous vous ne dans pour sur avec ce cette au du son mais",
    "it": "il lo la gli è non di che e un una per con si mi sono io lui lei questo della del nel ma come più ho ha",
    "nl": "de het een en is niet van ik je hij zij wij dat die met op voor te zijn was heeft maar ook aan naar er",
    "pt": "o a os as é não de que e em um uma por com para se eu ele ela do da no na mas como mais está muito",
}
# fmt: on
WORDS = {language: frozenset(words.split()) for language, words in COMMON.items()}
WORD = re.compile(r"[^\W\d_]+")
MAX_CHARACTERS = 2_000
SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI")


def guess_language(text: str) -> str:
    """Return a code such as ``de``, the name of a script other than Latin such as ``CJK``, or nothing when unsure.

    >>> guess_language("Das ist nicht der Zug nach Hamburg."), guess_language("明天见"), guess_language("Tom!")
    ('de', 'CJK', '')

    Two common words are needed, and more than any other language has.
    """
    text = text[:MAX_CHARACTERS]
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    if scripts:
        script, count = scripts.most_common(1)[0]
        if script and count > scripts.total() / 2:
            return "CJK" if script in {"HIRAGANA", "KATAKANA"} else script
    words = [word.lower() for word in WORD.findall(text)]
    counts = sorted(
        ((sum(word in typical for word in words), language) for language, typical in WORDS.items()), reverse=True
    )
    (most, language), (second, _) = counts[0], counts[1]
    return language if most >= 2 and most > second else ""


def majority(guesses: Iterable[str]) -> str:
    """Return the language of most texts of which it was guessed; nothing if there is none."""
    counts = Counter(guess for guess in guesses if guess)
    return min(counts, key=lambda guess: (-counts[guess], guess)) if counts else ""


def _script(letter: str) -> str:
    if letter < "\u0370":
        return ""
    name = unicodedata.name(letter, "")
    return next((script for script in SCRIPTS if name.startswith(script)), "")
