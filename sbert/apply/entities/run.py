"""Bring the entities of a table's rows up to date: fit or find the tagger, tag the changed rows, count.

>>> from sbert.apply.entities.run import find_entities
>>> report = find_entities("data/table", "data/labels", "data/entities")  # doctest: +SKIP
"""

import logging

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.entities.fit import check_types, earlier_fingerprint, fit_tagger, learn_base, tagger_fingerprint
from sbert.apply.entities.job import EntitiesJob
from sbert.apply.entities.settings import EntitySettings
from sbert.apply.entities.tagger import TAGGERS
from sbert.apply.marked_texts import label_fingerprint, read_marked_texts
from sbert.apply.word_vectors import WordReader
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable, find_output
from sbert.derived.run import DerivedReport, derive
from sbert.index.words.settings import words_text_column
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["EntitiesReport", "TypeCount", "count_entities", "entities_job", "find_entities"]

log = logging.getLogger(__name__)

NUM_FREQUENT = 3


class TypeCount(BaseModel):
    """The entities of one type in the output."""

    model_config = ConfigDict(frozen=True)

    type: str
    num_entities: int
    frequent: tuple[str, ...] = Field(description="The most frequent texts of the type.")


class EntitiesReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    output: DerivedReport = Field(description="Report of the derived table.")
    tagger: str = Field(description="Name of the tagger's folder in ``_taggers/``.")
    num_labelled_texts: int
    num_labelled_entities: dict[str, int] = Field(description="Labelled entities of each type.")
    num_base_texts: int = Field(description="Texts of the base labels; 0 without base labels.")
    num_tuned_layers: int = Field(description="Layers of the encoder that learned from the base labels.")
    frozen_encoder: str | None = Field(description="Why no layer learned from base labels though it was asked for.")
    num_rows_with_entities: int
    num_entities: int
    types: tuple[TypeCount, ...] = Field(description="Every type that was found, the most frequent first.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        entities = counted(self.num_entities, "entity", "entities")
        return f"{self.output.summary()}; {entities} in {counted(self.num_rows_with_entities, 'row')}"


def find_entities(
    table_uri: str,
    labels_uri: str,
    out_uri: str,
    settings: EntitySettings | None = None,
    *,
    concurrency: int = 1,
) -> EntitiesReport:
    """Find the entities in the text of every row of a table; compute only changed rows.

    Args:
        table_uri: the embeddings table, which keeps its text.
        labels_uri: a few texts with marked entities: file, folder or glob.
        out_uri: the derived table; made if it is not there.
        settings: how the tagger is fitted, and what is written.
        concurrency: splits that are computed at the same time.

    Raises:
        LabelError: the labels cannot be read or learned from.
        ColumnError: the table keeps no text.
        SettingsError, TableError: as `derive`; the output is as it was.
    """
    job = entities_job(table_uri, labels_uri, out_uri, settings)
    return count_entities(derive(job, table_uri, out_uri, concurrency=concurrency), job)


def entities_job(table_uri: str, labels_uri: str, out_uri: str, settings: EntitySettings | None = None) -> EntitiesJob:
    """Return the job of the labels; the tagger is fitted and stored beside the output if it is not there yet."""
    settings = settings or EntitySettings()
    out_uri = normalize_uri(out_uri)
    find_output(out_uri, EntitiesJob.name)
    table = Table.open(table_uri)
    words_text_column(table, settings.text_column)
    labels = read_marked_texts(labels_uri)
    base = read_marked_texts(settings.base_labels_uri) if settings.base_labels_uri is not None else []
    named = (label_fingerprint(labels), label_fingerprint(base), table.encoder.fingerprint, settings.tagger)
    fingerprint, earlier = tagger_fingerprint(*named), earlier_fingerprint(*named)
    stored = [name for name in (fingerprint, earlier) if name is not None and TAGGERS.find(out_uri, name) is not None]
    if not stored:
        check_types(labels, labels_uri)  # before the base labels are learned from, which can take minutes
        reader = WordReader.of_table(table, settings.tagger.num_layers, settings.tagger.tuned_layers if base else 0)
        fit_tagger(
            labels,
            learn_base(base, reader, settings.tagger.seed, str(settings.base_labels_uri)) if base else None,
            reader,
            settings.tagger,
            fingerprint=fingerprint,
            encoder_fingerprint=table.encoder.fingerprint,
            where=labels_uri,
        ).save(out_uri)
        log.info("fitted the tagger %s on %d labelled texts", fingerprint, len(labels))
    return EntitiesJob(
        tagger=stored[0] if stored else fingerprint,
        taggers_uri=out_uri,
        text_column=settings.text_column,
        min_probability=settings.min_probability,
    )


def count_entities(output: DerivedReport, job: EntitiesJob) -> EntitiesReport:
    """Count the entities of the new output by type."""
    tagger = TAGGERS.find(job.taggers_uri, job.tagger)
    assert tagger is not None
    entities_of_rows = DerivedTable.open(output.out_uri, output.version).scan().select("entities")
    num_rows = (
        entities_of_rows.filter(pl.col("entities").list.len() > 0).select(pl.len()).collect(engine="streaming").item()
    )
    texts = (
        entities_of_rows.explode("entities")
        .drop_nulls()
        .unnest("entities")
        .group_by("type", "text")
        .len()
        .sort("len", "text", descending=[True, False])
        .collect(engine="streaming")
    )
    types = [
        TypeCount(
            type=str(key[0]),
            num_entities=int(rows["len"].sum()),
            frequent=tuple(rows["text"].head(NUM_FREQUENT).to_list()),
        )
        for key, rows in texts.group_by("type", maintain_order=True)
    ]
    return EntitiesReport(
        output=output,
        tagger=job.tagger,
        num_labelled_texts=tagger.record.num_texts,
        num_labelled_entities=tagger.record.num_entities,
        num_base_texts=tagger.record.num_base_texts,
        num_tuned_layers=tagger.record.tuned.num_layers if tagger.record.tuned else 0,
        frozen_encoder=tagger.record.frozen,
        num_rows_with_entities=num_rows,
        num_entities=sum(each.num_entities for each in types),
        types=tuple(sorted(types, key=lambda each: (-each.num_entities, each.type))),
    )
