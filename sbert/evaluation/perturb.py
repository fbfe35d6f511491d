"""Change texts as people change them when they type: typos, case, truncation, word order."""

import random
from collections.abc import Callable, Sequence

from sbert.evaluation.settings import Perturbation

__all__ = ["perturb"]

TYPO_SHARE = 0.05
"""Share of letters with a typo, about that of fast unproofed typing."""


def perturb(texts: Sequence[str], kind: Perturbation, *, seed: int) -> list[str]:
    """Return each text changed in one way. The change depends only on the text and the seed."""
    change = CHANGES[kind]
    return [change(text, random.Random(f"{seed}|{text}")) for text in texts]  # noqa: S311  (no secret)


def _typos(text: str, chance: random.Random) -> str:
    letters = list(text)
    places = [at for at, letter in enumerate(letters) if letter.isalpha()]
    typos = chance.sample(places, max(1, round(TYPO_SHARE * len(places)))) if places else []
    for at in sorted(typos, reverse=True):
        kind = chance.randrange(3)
        if kind == 0 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1 and len(letters) > 1:
            del letters[at]
        else:
            letters.insert(at, letters[at])
    return "".join(letters)


def _first_half(text: str, chance: random.Random) -> str:  # noqa: ARG001  (same signature as the others)
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def _shuffled(text: str, chance: random.Random) -> str:
    words = text.split()
    chance.shuffle(words)
    return " ".join(words)


CHANGES: dict[Perturbation, Callable[[str, random.Random], str]] = {
    Perturbation.TYPOS: _typos,
    Perturbation.LOWER_CASE: lambda text, _: text.lower(),
    Perturbation.UPPER_CASE: lambda text, _: text.upper(),
    Perturbation.TRUNCATION: _first_half,
    Perturbation.WORD_ORDER: _shuffled,
}
