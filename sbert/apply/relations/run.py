"""Bring the relations of a table's rows up to date: fit or find the relator, relate the changed rows, count.

>>> from sbert.apply.relations.run import find_relations
>>> report = find_relations("data/entities", "data/labels", "data/relations")  # doctest: +SKIP
"""

import logging

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.marked_texts import label_fingerprint
from sbert.apply.relations.fit import fit_relator, relator_fingerprint
from sbert.apply.relations.job import RelationsJob
from sbert.apply.relations.labels import read_relation_labels
from sbert.apply.relations.names import check_same_rows
from sbert.apply.relations.relator import RELATORS
from sbert.apply.relations.settings import RelationSettings
from sbert.apply.word_vectors import WordReader
from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable, find_output
from sbert.derived.run import DerivedReport, derive
from sbert.errors import DerivedTableError, SettingsError
from sbert.index.words.settings import words_text_column
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["RelationCount", "RelationsReport", "count_relations", "find_relations", "relations_job", "table_of_names"]

log = logging.getLogger(__name__)

NUM_EXAMPLES = 3
ENTITIES = "entities"
"""Name of the job whose output holds names."""


class RelationCount(BaseModel):
    """The pairs of one relation in the output."""

    model_config = ConfigDict(frozen=True)

    relation: str
    num_pairs: int
    examples: tuple[str, ...] = Field(description="The surest pairs, as head and tail.")


class RelationsReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    output: DerivedReport = Field(description="Report of the derived table.")
    relator: str = Field(description="Name of the relator's folder in ``_relators/``.")
    num_labelled_pairs: dict[str, int] = Field(description="Labelled pairs of each relation.")
    num_labelled_none: int = Field(description="Labelled pairs that have none of the relations.")
    found: float = Field(description="Share of the labelled pairs whose relation the others find.")
    kept_out: float = Field(
        description="Share of pairs of other relations, or of none, that are recognised as having none."
    )
    num_rows_with_relations: int
    num_relations: int
    relations: tuple[RelationCount, ...] = Field(description="Every relation that was found, the most frequent first.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        relations = counted(self.num_relations, "relation")
        return f"{self.output.summary()}; {relations} in {counted(self.num_rows_with_relations, 'row')}"


def find_relations(
    table_uri: str,
    labels_uri: str,
    out_uri: str,
    settings: RelationSettings | None = None,
    *,
    concurrency: int = 1,
) -> RelationsReport:
    """Find the relations between the names of every row; compute only changed rows.

    Args:
        table_uri: an output of `sbert entities`, or an embeddings table with a column that marks the names.
        labels_uri: labelled pairs of names: file, folder or glob.
        out_uri: the derived table; made if it is not there.
        settings: how the relator is fitted, and what is written.
        concurrency: splits that are computed at the same time.

    Raises:
        LabelError: the labels cannot be read or learned from.
        ColumnError: the table keeps no text, or not the column of names.
        SettingsError, TableError: as `derive`; the output is as it was.
    """
    job = relations_job(table_uri, labels_uri, out_uri, settings)
    embeddings = table_of_names(table_uri, settings or RelationSettings())[0].uri
    return count_relations(derive(job, embeddings, out_uri, concurrency=concurrency), job)


def table_of_names(table_uri: str, settings: RelationSettings) -> tuple[Table, DerivedTable | None]:
    """Return the embeddings table that a job reads, and the output of entities if names come from one.

    Raises:
        NotATableError: there is neither.
        SettingsError: names come from nowhere, or from two places.
    """
    try:
        table, entities = Table.open(table_uri), None
    except DerivedTableError:
        entities = DerivedTable.open(table_uri)
        if entities.info.job != ENTITIES:
            raise SettingsError(
                f"{entities.uri}: this is an output of {entities.info.job}: name an output of entities, or an embeddings "
                "table and entities_column"
            ) from None
        table = Table.open(entities.info.table_uri)
    if entities is None and settings.entities_column is None:
        raise SettingsError(
            f"{table.uri}: this table has no marked names: name an output of `sbert entities` in its place, or set "
            "entities_column"
        )
    if entities is not None and settings.entities_column is not None:
        raise SettingsError(
            f"{entities.uri} holds names, and so does the column {settings.entities_column!r}: leave entities_column out"
        )
    return table, entities


def relations_job(
    table_uri: str, labels_uri: str, out_uri: str, settings: RelationSettings | None = None
) -> RelationsJob:
    """Return the job of the labels; the relator is fitted and stored beside the output if it is not there yet."""
    settings = settings or RelationSettings()
    out_uri = normalize_uri(out_uri)
    find_output(out_uri, RelationsJob.name)
    table, entities = table_of_names(table_uri, settings)
    words_text_column(table, settings.text_column)
    if entities is not None:
        check_same_rows(table, entities)
    labels = read_relation_labels(labels_uri)
    fingerprint = relator_fingerprint(label_fingerprint(labels), table.encoder.fingerprint, settings.relator)
    if RELATORS.find(out_uri, fingerprint) is None:
        relator = fit_relator(
            labels,
            WordReader.of_table(table, settings.relator.num_layers),
            settings.relator,
            fingerprint=fingerprint,
            encoder_fingerprint=table.encoder.fingerprint,
            where=labels_uri,
        )
        relator.save(out_uri)
        log.info("fitted the relator %s on %d labelled pairs", fingerprint, len(labels))
    return RelationsJob(
        relator=fingerprint,
        relators_uri=out_uri,
        entities_uri=None if entities is None else entities.uri,
        entities_version=0 if entities is None else entities.version,
        entities_column=settings.entities_column,
        text_column=settings.text_column,
        max_words_between=settings.max_words_between,
        min_probability=settings.min_probability,
    )


def count_relations(output: DerivedReport, job: RelationsJob) -> RelationsReport:
    """Count the relations of the new output."""
    relator = RELATORS.find(job.relators_uri, job.relator)
    assert relator is not None
    record = relator.record
    rows = DerivedTable.open(output.out_uri, output.version).scan().select("relations")
    num_rows = rows.filter(pl.col("relations").list.len() > 0).select(pl.len()).collect(engine="streaming").item()
    pairs = (
        rows.explode("relations")
        .drop_nulls()
        .unnest("relations")
        .select(
            "relation",
            "probability",
            pair=pl.format("{} → {}", pl.col("head").struct.field("text"), pl.col("tail").struct.field("text")),
        )
    )
    counts = pairs.group_by("relation").len().sort(["len", "relation"], descending=[True, False]).collect()
    surest = (
        pairs.sort(["probability", "pair"], descending=[True, False])
        .unique(["relation", "pair"], keep="first", maintain_order=True)
        .group_by("relation", maintain_order=True)
        .head(NUM_EXAMPLES)
        .collect()
    )
    return RelationsReport(
        output=output,
        relator=job.relator,
        num_labelled_pairs=record.num_examples,
        num_labelled_none=record.num_none,
        found=round(record.found, 4),
        kept_out=round(record.kept_out, 4),
        num_rows_with_relations=num_rows,
        num_relations=int(counts["len"].sum()),
        relations=tuple(
            RelationCount(
                relation=name,
                num_pairs=count,
                examples=tuple(surest.filter(pl.col("relation") == name)["pair"].to_list()),
            )
            for name, count in counts.iter_rows()
        ),
    )
