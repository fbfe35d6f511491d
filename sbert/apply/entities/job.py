"""`EntitiesJob`: the entities in the text of every row, as a derived table."""

import hashlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from sbert.apply.entities.tagger import TAGGERS
from sbert.apply.word_vectors import WordReader
from sbert.derived.content_job import ContentBlock, ContentFunction, ContentJob
from sbert.derived.job import KEY_COLUMNS, SplitInput
from sbert.index.words.settings import words_text_column
from sbert.table.delta import Table

__all__ = ["ENTITY", "EntitiesJob"]

ENTITY = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("type", pa.string()),
        pa.field("text", pa.string()),
        pa.field("probability", pa.float32()),
    ]
)


class EntitiesJob(ContentJob):
    """Spans of each row's text with their types, in the order of the text."""

    name: ClassVar[str] = "entities"

    tagger: str = Field(min_length=1, description="Name of the tagger's folder in ``_taggers/``.")
    taggers_uri: str = Field(min_length=1, description="The output beside which the tagger lies.")
    text_column: str | None = Field(default=None, min_length=1, description="Kept column with the text.")
    min_probability: float = Field(default=0.0, ge=0, lt=1, description="Least probability of an entity (0 to 1).")

    def content_columns(self) -> pa.Schema:
        """Return one column: the entities of the row."""
        return pa.schema([pa.field("entities", pa.list_(ENTITY))])

    def check(self, table: Table) -> None:
        """Check also that the table keeps the text.

        Raises:
            ColumnError: no such column is kept.
        """
        super().check(table)
        words_text_column(table, self.text_column)

    def fingerprint(self, table: Table) -> str:
        """Hash everything that the output depends on. The place of the tagger does not count: a folder can be moved."""
        column = words_text_column(table, self.text_column)
        parts = [self.name, str(self.code_version), self.tagger, column, f"{self.min_probability:g}"]
        return hashlib.sha256("|".join([*parts, table.encoder.fingerprint]).encode()).hexdigest()

    def open_contents(self, table: Table) -> Callable[[SplitInput], Iterator[ContentBlock]]:
        """Read the texts of a split; a row without text has an empty one."""
        column = words_text_column(table, self.text_column)

        def read(split: SplitInput) -> Iterator[ContentBlock]:
            for rows in split.rows(list(dict.fromkeys([*KEY_COLUMNS, column]))):
                yield rows, [text or "" for text in rows[column].to_pylist()]

        return read

    def open_function(self, table: Table, out_uri: str) -> ContentFunction:  # noqa: ARG002
        """Load the tagger and the encoder, and return the function that finds the entities of texts."""
        tagger = TAGGERS.load(self.taggers_uri, self.tagger, table)
        tuned = tagger.record.tuned
        reader = WordReader.of_table(table, tagger.record.num_layers, tuned.num_layers if tuned else 0)

        def tag(texts: list[str]) -> pa.Table:
            entities = [
                [entity.model_dump() for entity in entities if entity.probability >= self.min_probability]
                for entities in tagger.tag(reader.read(texts))
            ]
            return pa.table({"entities": pa.array(entities, pa.list_(ENTITY))})

        return tag
