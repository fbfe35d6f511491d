"""Say why two texts are near, word pair by word pair, and warn of what their vectors overlook.

>>> from sbert.apply.explanation.explain import Explainer
>>> why = Explainer.of_model().explain("I forgot my password", "How do I reset a login?")  # doctest: +SKIP
>>> why.cosine, why.pairs[0]  # doctest: +SKIP

The parts of all pairs add up to the cosine. Other applications call `Explainer.explain` for the pairs they found; an
explainer keeps the words of the last texts, so a query is divided once for all its hits.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.explanation.settings import ExplanationSettings, Method
from sbert.apply.explanation.shares import WordShares, integrated_shares, last_layer_shares
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.token_vectors import TokenReader
from sbert.errors import SettingsError
from sbert.rows.text_differences import DifferenceKind, differences
from sbert.table.delta import Table

__all__ = ["ExplainedText", "Explainer", "Explanation", "Overlooked", "WordPair", "WordPart", "overlooked_differences"]

KEPT_TEXTS = 64


class WordPart(BaseModel):
    """A word, and what it adds to the cosine with all words of the other text together."""

    model_config = ConfigDict(frozen=True)

    word: str
    start: int = Field(description="Place of the first character in the text, from 0.")
    end: int = Field(description="Place after the last character.")
    part: float


class ExplainedText(BaseModel):
    """One of the two texts."""

    model_config = ConfigDict(frozen=True)

    text: str
    words: tuple[WordPart, ...]
    rest: float = Field(
        description="What special tokens and the prompt add; through layers, what a text of masks adds."
    )
    truncated: bool = Field(description="Whether the encoder does not see the end of the text.")


class WordPair(BaseModel):
    """A word of each text, and what the pair adds to the cosine."""

    model_config = ConfigDict(frozen=True)

    left: str
    right: str
    part: float


class Overlooked(BaseModel):
    """A difference in meaning that the vectors overlook."""

    model_config = ConfigDict(frozen=True)

    kind: DifferenceKind
    left: tuple[str, ...]
    right: tuple[str, ...]
    message: str


class Explanation(BaseModel):
    """Why two texts are near; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    model: str
    method: Method
    cosine: float
    error: float = Field(description="Distance between the sum of all parts and the cosine.")
    left: ExplainedText
    right: ExplainedText
    parts: tuple[tuple[float, ...], ...] = Field(
        description="A row for each word of the left text and for its rest, a column for each of the right text."
    )
    warnings: tuple[Overlooked, ...]

    @property
    def pairs(self) -> list[WordPair]:
        """Return all pairs of words, the greatest part first; of equal parts the pair that comes first in the texts."""
        num_left, num_right = len(self.left.words), len(self.right.words)
        found = [
            WordPair(left=self.left.words[row].word, right=self.right.words[column].word, part=self.parts[row][column])
            for row in range(num_left)
            for column in range(num_right)
        ]
        return sorted(found, key=lambda pair: -pair.part)


class Explainer:
    """Explains pairs of texts by one encoder, in float32."""

    def __init__(self, encoder: SentenceEncoder, settings: ExplanationSettings | None = None) -> None:
        """Prepare an encoder.

        Args:
            encoder: loaded by `SentenceEncoder.from_pretrained` with compute_dtype float32.
            settings: how to explain.

        Raises:
            SettingsError: the encoder computes in another type than float32.
            ModelError: the encoder was loaded for vectors of texts alone.
        """
        if encoder.compute_dtype is not ComputeDtype.FLOAT32:
            raise SettingsError(f"the encoder computes in {encoder.compute_dtype}: load it with compute_dtype float32")
        self.settings = settings or ExplanationSettings()
        self._reader = TokenReader(encoder)
        self._shares = lru_cache(KEPT_TEXTS)(self._divide)

    @classmethod
    def of_model(
        cls,
        model: str = DEFAULT_MODEL,
        settings: ExplanationSettings | None = None,
        *,
        max_seq_length: int | None = None,
    ) -> Self:
        """Load an encoder by its name.

        Raises:
            ModelError: it cannot be loaded.
        """
        encoder = SentenceEncoder.from_pretrained(
            model, compute_dtype=ComputeDtype.FLOAT32, max_seq_length=max_seq_length
        )
        return cls(encoder, settings)

    @classmethod
    def of_table(cls, table: Table, settings: ExplanationSettings | None = None) -> Self:
        """Load the encoder of a table. Its cosines may differ from the table's in the third digit: they are in float32.

        Raises:
            ModelError: it cannot be loaded.
        """
        return cls.of_model(table.encoder.model, settings, max_seq_length=table.encoder.max_seq_length)

    def explain(
        self, left: str, right: str, *, sides: tuple[Side, Side] = (Side.DOCUMENT, Side.DOCUMENT)
    ) -> Explanation:
        """Return the part of each pair of words in the cosine of two texts, and warnings.

        Args:
            left: a text.
            right: another.
            sides: how each is encoded: as a query or as a document.

        Raises:
            ModelError: the method cannot explain this encoder.
            SettingsError: a text is empty.
        """
        for name, text in (("left", left), ("right", right)):
            if not text.strip():
                raise SettingsError(f"the {name} text is empty, so it has no words to explain: give a text")
        ours, theirs = self._shares(left, sides[0]), self._shares(right, sides[1])
        parts = ours.shares_WD @ theirs.shares_WD.T
        cosine = float(ours.vector_D @ theirs.vector_D)
        return Explanation(
            model=self._reader.encoder.model_id,
            method=self.settings.method,
            cosine=cosine,
            error=abs(float(parts.sum()) - cosine),
            left=_explained(ours, parts.sum(1).tolist()),
            right=_explained(theirs, parts.sum(0).tolist()),
            parts=tuple(tuple(row) for row in np.round(parts, 9).tolist()),
            warnings=overlooked_differences(left, right, cosine, above=self.settings.warn_above),
        )

    def _divide(self, text: str, side: Side) -> WordShares:
        prompt = self._reader.encoder.prompt_for(side)
        if self.settings.method is Method.LAST_LAYER:
            return last_layer_shares(self._reader, text, prompt=prompt)
        return integrated_shares(
            self._reader, text, prompt=prompt, steps=self.settings.steps, max_error=self.settings.max_error
        )


def overlooked_differences(
    left: str, right: str, cosine: float, *, above: float = ExplanationSettings().warn_above
) -> tuple[Overlooked, ...]:
    """Return the numbers and negations in which two texts differ although their vectors are near.

    Args:
        left: a text.
        right: another.
        cosine: the cosine of their vectors.
        above: cosine from which on the vectors count as near.
    """
    if cosine < above:
        return ()
    return tuple(
        Overlooked(
            kind=found.kind, left=found.left, right=found.right, message=_message(found.kind, found.left, found.right)
        )
        for found in differences(left, right)
        if found.is_conflict and found.kind is not DifferenceKind.NAME
    )


def _message(kind: DifferenceKind, left: Sequence[str], right: Sequence[str]) -> str:
    if kind is DifferenceKind.NUMBER:
        return f"the numbers differ: {', '.join(left)} on the left, {', '.join(right)} on the right"
    side, words = ("left", left) if left else ("right", right)
    return f"only the {side} text has the negation {', '.join(words)}"


def _explained(shares: WordShares, parts: list[float]) -> ExplainedText:
    words = tuple(
        WordPart(word=shares.text[start:end], start=start, end=end, part=part)
        for (start, end), part in zip(shares.words, parts[:-1], strict=True)
    )
    return ExplainedText(text=shares.text, words=words, rest=parts[-1], truncated=shares.is_truncated)
