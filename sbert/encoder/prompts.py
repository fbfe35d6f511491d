"""Choose the prompt that is put before a text."""

from collections.abc import Mapping

from sbert.encoder.side import Side
from sbert.encoder.tokenization.texts import check_text
from sbert.errors import SettingsError

__all__ = ["choose_prompt", "prompt_of_side"]

NAMES = {Side.QUERY: ("query",), Side.DOCUMENT: ("document", "passage", "corpus")}
"""Names that models give to the prompt of a side; the first that a model has counts."""


def prompt_of_side(prompts: Mapping[str, str], side: str) -> str:
    """Return the prompt for one side, by the rule of sentence-transformers; an empty string if it has no prompt.

    Raises:
        SettingsError: when the side is unknown.
    """
    if side not in set(Side):
        raise SettingsError(f"side is {side!r}, expected one of {', '.join(Side)}")
    return next((prompts[name] for name in NAMES[Side(side)] if name in prompts), "")


def choose_prompt(
    prompts: Mapping[str, str], default_name: str | None, *, side: str | None, name: str | None, prompt: str | None
) -> str:
    """Return the prompt that is asked for by its side, by its name or by itself, else the model's default prompt.

    Raises:
        SettingsError: when several are asked for, or the model has no prompt of that name.
    """
    if sum(choice is not None for choice in (side, name, prompt)) > 1:
        raise SettingsError(f"side is {side!r}, prompt_name {name!r} and prompt {prompt!r}: name only one of them")
    if side is not None:
        return prompt_of_side(prompts, side)
    if prompt is not None:
        check_text(prompt, "prompt")
        return prompt
    name = name or default_name
    if name is None:
        return ""
    if name not in prompts:
        raise SettingsError(f"the model has no prompt {name!r}: name one of {sorted(prompts)}")
    return prompts[name]
