"""Say why two texts are near, word pair by word pair, and warn of what their vectors overlook.

>>> from sbert.explanation.explain import Explainer
>>> why = Explainer.of_model().explain("I forgot my password", "How do I reset a login?")  # doctest: +SKIP
>>> why.cosine, why.pairs[0]  # doctest: +SKIP

The parts of all pairs add up to the cosine. Applications call `sbert.explanation.reasons` for the pairs that they found. An
explainer keeps the words of the last texts, so a query is divided once for all its hits.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.modules import Truncate
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.token_vectors import TokenReader
from sbert.errors import SettingsError
from sbert.explanation.settings import ExplanationSettings, Method
from sbert.explanation.shares import WordShares, integrated_shares, last_layer_shares
from sbert.index.queries import load_table_encoder
from sbert.rows.text_differences import DifferenceKind, differences
from sbert.table.delta import Table

__all__ = ["ExplainedText", "Explainer", "Explanation", "Overlooked", "WordPair", "WordPart", "overlooked_differences"]

KEPT_TEXTS = 64
"""Texts whose shares are kept: those that were used last."""
Prompts = tuple[str, str]
"""What is put before the left and the right text."""


class WordPart(BaseModel):
    """A word, and its part of the cosine, with all words of the other text together."""

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
        description="Part of the special tokens and the prompt; by the method through-layers, part of a text of masks."
    )
    truncated: bool = Field(description="Whether the encoder does not see the end of the text.")


class WordPair(BaseModel):
    """A word of each text, and the pair's part of the cosine."""

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
        return self.greatest_pairs()

    def greatest_pairs(self, num: int | None = None, *, with_marks: bool = True) -> list[WordPair]:
        """Return the first `num` of `pairs`, perhaps without pairs in which a word is only a mark, such as a full stop."""
        ours, theirs = (
            [word for word in enumerate(text.words) if with_marks or any(map(str.isalnum, word[1].word))]
            for text in (self.left, self.right)
        )
        parts = np.array(self.parts)[np.ix_([row for row, _ in ours], [column for column, _ in theirs])]
        rows, columns = np.unravel_index(np.argsort(-parts, axis=None, kind="stable")[:num], parts.shape)
        return [
            WordPair(left=ours[row][1].word, right=theirs[column][1].word, part=float(parts[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]


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
        self._kept: dict[tuple[str, str], WordShares] = {}

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
            EncoderMismatchError: the model of that name is no longer the same encoder.
        """
        load_table_encoder(table)  # checks that the model is the one that made the table, in the table's own dtype
        explainer = cls.of_model(table.encoder.model, settings, max_seq_length=table.encoder.max_seq_length)
        encoder = explainer._reader.encoder
        if table.encoder.dim < encoder.dim:  # the table keeps the first values of each vector
            encoder.layers.append(Truncate(table.encoder.dim))
        return explainer

    def explain(
        self,
        left: str,
        right: str,
        *,
        sides: tuple[Side, Side] = (Side.DOCUMENT, Side.DOCUMENT),
        prompts: Prompts | None = None,
    ) -> Explanation:
        """Return the part of each pair of words in the cosine of two texts, and warnings.

        Args:
            left: a text.
            right: another.
            sides: how each is encoded: as a query or as a document.
            prompts: what is put before each; by default what the encoder puts before texts of these sides.

        Raises:
            ModelError: the method cannot explain this encoder.
            SettingsError: a text is empty.
        """
        for name, text in (("left", left), ("right", right)):
            if not text.strip():
                raise SettingsError(f"the {name} text is empty, so it has no words to explain: give a text")
        prompt_for = self._reader.encoder.prompt_for
        before_left, before_right = prompts or (prompt_for(sides[0]), prompt_for(sides[1]))
        ours, theirs = self._shares([left], before_left)[0], self._shares([right], before_right)[0]
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

    @property
    def document_prompts(self) -> Prompts:
        """The prompts before two documents."""
        prompt = self._reader.encoder.prompt_for(Side.DOCUMENT)
        return prompt, prompt

    def read(self, pairs: Sequence[tuple[str, str]], prompts: Prompts) -> None:
        """Divide the texts of up to `KEPT_TEXTS` / 2 pairs in batches, so that `explain` finds them divided."""
        self._shares([left for left, _ in pairs], prompts[0])
        self._shares([right for _, right in pairs], prompts[1])

    def _shares(self, texts: Sequence[str], prompt: str) -> list[WordShares]:
        keys = [(text, prompt) for text in dict.fromkeys(texts)]
        cached = {key: self._kept.pop(key) for key in keys if key in self._kept}
        missing = [text for text, _ in keys if (text, prompt) not in cached]
        if missing:
            cached |= {(share.text, prompt): share for share in self._divide(missing, prompt)}
        self._kept |= cached
        for key in list(self._kept)[:-KEPT_TEXTS]:
            del self._kept[key]
        return [cached[text, prompt] for text in texts]

    def _divide(self, texts: Sequence[str], prompt: str) -> list[WordShares]:
        if self.settings.method is Method.LAST_LAYER:
            return last_layer_shares(self._reader, texts, prompt=prompt)
        steps, max_error = self.settings.steps, self.settings.max_error
        return [
            integrated_shares(self._reader, text, prompt=prompt, steps=steps, max_error=max_error) for text in texts
        ]


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
            kind=difference.kind,
            left=difference.left,
            right=difference.right,
            message=_message(difference.kind, difference.left, difference.right),
        )
        for difference in differences(left, right)
        if difference.is_conflict and difference.kind is not DifferenceKind.NAME
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
