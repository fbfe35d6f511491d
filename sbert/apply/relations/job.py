"""`RelationsJob`: the relations between the names in the text of every row, as a derived table."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from sbert.apply.relations.labels import Name
from sbert.apply.relations.names import NamedText, check_same_rows, names_of_column, names_of_entities, parse_content
from sbert.apply.relations.relator import RELATORS, Relator
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.derived.content_job import ContentBlock, ContentFunction, ContentJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import SplitInput
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table

__all__ = ["RELATION", "RelationsJob", "find_relations_of"]

NAME = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("type", pa.string()),
        pa.field("text", pa.string()),
    ]
)
RELATION = pa.struct(
    [
        pa.field("relation", pa.string()),
        pa.field("head", NAME),
        pa.field("tail", NAME),
        pa.field("probability", pa.float32()),
    ]
)


class RelationsJob(ContentJob):
    """Pairs of names of each row's text with their relation; pairs that have none of the relations are left out."""

    name: ClassVar[str] = "relations"

    relator: str = Field(min_length=1, description="Name of the relator's folder in ``_relators/``.")
    relators_uri: str = Field(min_length=1, description="The output beside which the relator lies.")
    entities_uri: str | None = Field(default=None, description="Output of entities of the same table.")
    entities_version: int = Field(default=0, ge=0, description="Its version.")
    entities_column: str | None = Field(default=None, description="Kept column that marks the names as JSON.")
    text_column: str | None = Field(default=None, min_length=1, description="Kept column with the text.")
    max_words_between: int = Field(default=25, ge=0, description="Most words between two names (words).")
    min_probability: float = Field(default=0.5, ge=0, lt=1, description="Least probability of a relation (0 to 1).")

    def content_columns(self) -> pa.Schema:
        """Return one column: the relations of the row."""
        return pa.schema([pa.field("relations", pa.list_(RELATION))])

    def check(self, table: Table) -> None:
        """Check also that the table keeps the text, and that the entities belong to its rows.

        Raises:
            ColumnError: no such column is kept.
            SettingsError: the entities are behind the table, or of another table.
        """
        super().check(table)
        words_text_column(table, self.text_column)
        entities = self._entities()
        if entities is not None:
            check_same_rows(table, entities)

    def fingerprint(self, table: Table) -> str:
        """Hash everything that the output depends on. The job that finds the entities counts; the version of their table
        does not."""
        entities = self._entities()
        parts = [
            *(self.name, str(self.code_version), self.relator, words_text_column(table, self.text_column)),
            *(str(self.max_words_between), f"{self.min_probability:g}", self.entities_column or ""),
            *("" if entities is None else entities.info.job_fingerprint, table.encoder.fingerprint),
        ]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def open_contents(self, table: Table) -> Callable[[SplitInput], Iterator[ContentBlock]]:
        """Read the texts of a split with their names."""
        column = words_text_column(table, self.text_column)
        entities = self._entities()
        if entities is not None:
            return names_of_entities(entities, column)
        assert self.entities_column is not None
        return names_of_column(table, self.entities_column, column)

    def open_function(self, table: Table, out_uri: str) -> ContentFunction:  # noqa: ARG002
        """Load the relator and the encoder, and return the function that relates names."""
        relator = RELATORS.load(self.relators_uri, self.relator, table)
        reader = WordReader.of_table(table, relator.record.settings.num_layers)

        def relate(contents: list[str]) -> pa.Table:
            texts = [parse_content(content) for content in contents]
            several = [place for place, each in enumerate(texts) if each.names]
            relations: list[list[dict[str, Any]]] = [[] for _ in texts]
            for place, words in zip(several, reader.read([texts[place].text for place in several]), strict=True):
                relations[place] = find_relations_of(
                    relator,
                    words,
                    texts[place],
                    max_words_between=self.max_words_between,
                    min_probability=self.min_probability,
                )
            return pa.table({"relations": pa.array(relations, pa.list_(RELATION))})

        return relate

    def _entities(self) -> DerivedTable | None:
        return None if self.entities_uri is None else DerivedTable.open(self.entities_uri, self.entities_version)


def find_relations_of(
    relator: Relator, words: WordVectors, text: NamedText, *, max_words_between: int, min_probability: float
) -> list[dict[str, Any]]:
    """Return the relations of a text as rows of the output: of two names the likeliest relation in either direction.

    Args:
        relator: knows the relations.
        words: the words of the text.
        text: the text with its names.
        max_words_between: pairs with more words between them are not looked at.
        min_probability: less likely relations are left out.
    """
    pairs = [
        (head, tail)
        for place, one in enumerate(text.names)
        for other in text.names[place + 1 :]
        if _num_between(words, one, other) <= max_words_between
        for head, tail in ((one, other), (other, one))
    ]
    if not pairs:
        return []
    features_PG = np.stack(
        [relator.features.of(words, (head.start, head.end), (tail.start, tail.end)) for head, tail in pairs]
    )
    probabilities_PR = relator.probabilities(features_PG)
    relations = relator.record.relations
    for row, (head, tail) in enumerate(pairs):
        for column, relation in enumerate(relations):
            if not relator.allows(relation, head.type, tail.type):
                probabilities_PR[row, column] = 0.0
    rows = []
    for first in range(0, len(pairs), 2):  # both directions of a pair stand side by side
        both_2R = probabilities_PR[first : first + 2]
        row, column = divmod(int(both_2R.argmax()), len(relations))
        probability = float(both_2R[row, column])
        if probability >= min_probability and probability > 0:
            head, tail = pairs[first + row]
            rows.append(
                {
                    "relation": relations[column],
                    "head": _name(text.text, head),
                    "tail": _name(text.text, tail),
                    "probability": round(probability, 4),
                }
            )
    return rows


def _num_between(words: WordVectors, one: Name, other: Name) -> int:
    """Return the number of words between two names; overlapping names are too far apart for any setting."""
    left, right = (one, other) if (one.start, one.end) < (other.start, other.end) else (other, one)
    if right.start < left.end:
        return len(words.words) + 1_000
    return sum(begin >= left.end and end <= right.start for begin, end in words.words)


def _name(text: str, name: Name) -> dict[str, Any]:
    return {"start": name.start, "end": name.end, "type": name.type, "text": text[name.start : name.end]}
