"""Questions in a language that the encoder does not know, found by their tokens.

A tokenizer cuts words that it does not know into short pieces, down to single characters. Words in a script that it has no
characters of become one unknown token each, however long they are. Their length says nothing, so every character of them
counts as a token. These need the tokenizer; it is loaded only for questions whose letters are mostly in no answer.
"""

import logging
from collections.abc import Iterable, Sequence

import polars as pl

from sbert.apply.answers.model import AnswerModel
from sbert.apply.answers.settings import AnswerSettings
from sbert.encoder.tokenization.token_ids import plain_tokenizer
from sbert.encoder.tokenization.unknown import hidden_characters
from sbert.errors import EncoderMismatchError, ModelError
from sbert.index.queries import load_table_encoder
from sbert.table.delta import Table

__all__ = ["FRAME_TOKENS", "LanguageCheck", "foreign_letters"]

log = logging.getLogger(__name__)

FRAME_TOKENS = 2
"""Tokens that stand around every text."""


class LanguageCheck:
    """Finds questions whose tokens are much shorter than the tokens of the answers."""

    def __init__(self, table: Table, settings: AnswerSettings, model: AnswerModel) -> None:
        """Take the length of the answers' tokens from the model.

        Args:
            table: the questions table, whose encoder made the tokens.
            settings: how short tokens may be.
            model: length of the answers' tokens, and their letters.
        """
        self._table = table
        usual = model.token_length
        self._least = settings.min_token_length * (usual or 0.0)
        self._prompt_tokens = len(table.encoder.prompt) / usual if usual else 0.0
        self._letters = None if model.letters is None else frozenset(model.letters)
        self._has_encoder = True

    def unknown(self, texts: Sequence[str], num_tokens: Sequence[int]) -> list[bool]:
        """Return for each text whether its language is unknown.

        Args:
            texts: the encoded texts, without prompt.
            num_tokens: tokens of each, with those of the prompt and of the frame.
        """
        if not self._least:
            return [False] * len(texts)
        tokens = [count - FRAME_TOKENS - self._prompt_tokens for count in num_tokens]
        strange = [place for place, text in enumerate(texts) if not text.isascii() and self._is_strange(text)]
        if strange and self._has_encoder:
            for place, more in zip(strange, self._hidden_tokens([texts[place] for place in strange]), strict=True):
                tokens[place] += more
        return [len(text) < self._least * count for text, count in zip(texts, tokens, strict=True)]

    def _is_strange(self, text: str) -> bool:
        """Return whether most letters of a text are in no answer."""
        if self._letters is None:
            return False
        letters = [letter for letter in text if letter.isalpha()]
        return 2 * sum(not letter.isascii() and letter not in self._letters for letter in letters) > len(letters)

    def _hidden_tokens(self, texts: list[str]) -> list[int]:
        """Return for each text the characters of its unknown tokens beyond one each."""
        try:
            tokenizer = load_table_encoder(self._table).hf_tokenizer
        except (EncoderMismatchError, ModelError) as error:
            log.warning(
                "the encoder cannot be loaded, so questions in a script unknown to it are not noticed: %s", error
            )
            self._has_encoder = False
            return [0] * len(texts)
        return hidden_characters(plain_tokenizer(tokenizer, do_lower_case=False), texts)


def foreign_letters(texts: Iterable[pl.Series]) -> str:
    """Return the letters beyond ASCII of texts, each once, in order."""
    letters: set[str] = set()
    for part in texts:
        letters.update("".join(text for text in part.to_list() if not text.isascii()))
    return "".join(sorted(letter for letter in letters if letter.isalpha() and not letter.isascii()))
