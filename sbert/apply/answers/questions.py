"""Questions as they are compared: with the turns before them, with their words, and with a look at their language."""

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from sbert.apply.answers.answer_pool import joined_texts
from sbert.apply.answers.best_answers import Questions
from sbert.apply.answers.language import LanguageCheck
from sbert.apply.answers.model import AnswerModel
from sbert.apply.answers.settings import AnswerSettings
from sbert.apply.answers.shared_words import WordCounts, question_words
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["QuestionReader", "with_context"]


class QuestionReader:
    """Turns the rows of one split, block by block in their order, into questions. A split has a reader of its own."""

    def __init__(
        self, table: Table, settings: AnswerSettings, column: str | None, model: AnswerModel, counts: WordCounts
    ) -> None:
        """Begin with no turn before the first.

        Args:
            table: the questions table.
            settings: context and language.
            column: kept column of the questions' texts; None if there is none.
            model: length and letters of the answers' tokens.
            counts: for the match of words.
        """
        self._table = table
        self._settings = settings
        self._column = column
        self._language = LanguageCheck(table, settings, model)
        self._counts = counts
        turns = settings.context_turns
        self._vectors: dict[object, deque[Float32]] = defaultdict(lambda: deque(maxlen=turns))
        self._texts: dict[object, deque[str]] = defaultdict(lambda: deque(maxlen=turns))

    @property
    def columns(self) -> list[str]:
        """Columns that `read` needs."""
        own = [self._column, self._settings.conversation_column]
        return ["num_tokens", *vector_names(self._table.encoder.precision), *(name for name in own if name)]

    def read(self, rows: pa.Table, *, with_words: bool) -> tuple[Questions, list[bool]]:
        """Return the questions of a block, and for each whether its language is unknown."""
        info = self._table.encoder
        vectors_QD = unit_rows(vector_matrix(rows, info.dim, info.precision))
        texts = [] if self._column is None else joined_texts(rows, [self._column], self._table).to_list()
        is_unknown = self._language.unknown(texts, rows["num_tokens"].to_pylist()) if texts else [False] * len(rows)
        conversation = self._settings.conversation_column
        if conversation is not None and self._settings.context_turns > 1:
            turns = rows[conversation].to_pylist()
            vectors_QD = self._vectors_in_context(vectors_QD, turns)
            texts = self._texts_in_context(texts, turns) if texts else []
        words = question_words(texts, self._counts) if with_words and texts else None
        return Questions(vectors_QD, words), is_unknown

    def _vectors_in_context(self, vectors_QD: Float32, conversations: Sequence[object]) -> Float32:
        mixed = np.empty_like(vectors_QD)
        for row, conversation in enumerate(conversations):
            if conversation is None:  # a turn of no dialogue
                mixed[row] = vectors_QD[row]
                continue
            before = self._vectors[conversation]
            before.append(vectors_QD[row].copy())
            mixed[row] = with_context(list(before), self._settings.context_decay)
        return mixed

    def _texts_in_context(self, texts: Sequence[str], conversations: Sequence[object]) -> list[str]:
        joined = []
        for text, conversation in zip(texts, conversations, strict=True):
            if conversation is None:
                joined.append(text)
                continue
            before = self._texts[conversation]
            before.append(text)
            joined.append(" ".join(before))
        return joined


def with_context(turns: Sequence[Float32], decay: float) -> Float32:
    """Return the unit vector of the last turns: each counts `decay` times as much as the turn after it.

    Args:
        turns: unit vectors in the order of time.
        decay: weight of a turn compared with the turn after it (0 to 1).
    """
    weights = decay ** np.arange(len(turns) - 1, -1, -1, dtype=np.float32)
    mean = (np.stack(turns) * weights[:, None]).sum(axis=0, keepdims=True)
    return np.asarray(unit_rows(mean.astype(np.float32))[0])
