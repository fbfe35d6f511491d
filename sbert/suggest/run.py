"""Suggest what to label next, from locations to a file.

>>> from sbert.suggest.run import suggest_labels
>>> report = suggest_labels("table", "labels.jsonl", 200, labels_uri="labels")  # doctest: +SKIP
"""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.derived.derived_table import DerivedTable
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.index.queries import load_table_encoder
from sbert.suggest.candidate import candidate_model
from sbert.suggest.predictions import gives_lists
from sbert.suggest.settings import SuggestSettings
from sbert.suggest.suggest import load_labelled, suggest
from sbert.suggest.suggestion_file import check_target, write_suggestions
from sbert.table.delta import Table

__all__ = ["SuggestReport", "suggest_labels"]


class SuggestReport(BaseModel):
    """Result of one choice."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    table_uri: str = Field(description="The table.")
    labels_out: str = Field(description="The file that was written.")
    num_rows: int = Field(description="Texts or pairs in it.")
    num_pool: int = Field(description="Texts that they were chosen from.")
    criteria: list[str] = Field(description="Criteria that could be used.")
    note: str = Field(description="What could not be learned from the labels; empty when all went as asked.")
    candidate: str | None = Field(description="Encoder whose disagreement with that of the table counted.")
    rows: pl.DataFrame = Field(exclude=True, description="The rows of the file; the best comes first.")


def suggest_labels(
    table_uri: str,
    labels_out: str,
    num: int = 100,
    *,
    models_uri: str | None = None,
    candidate: str | None = None,
    labels_uri: str | None = None,
    predictions_uri: str | None = None,
    settings: SuggestSettings | None = None,
) -> SuggestReport:
    """Choose texts or pairs of a table whose labels would teach most, and write them as a file to fill in.

    Args:
        table_uri: the table; it must keep the text.
        labels_out: ``.jsonl``, ``.csv`` or ``.parquet`` file to write; nothing may be there.
        num: texts or pairs to choose; fewer are written when the table has fewer.
        models_uri: model registry: texts on which its candidate and production disagree come first.
        candidate: version to compare with production; None is the newest that is not production.
        labels_uri: labels that exist: labelled texts are left out, uncertain ones come first.
        predictions_uri: output of `sbert classify` for the table: texts on which it abstains come first.
        settings: kind of labels, weights and sizes.

    Raises:
        SettingsError: the file exists already or has another ending, or settings exclude each other.
        NotATableError: there is no table, or no output of `sbert classify`.
        ColumnError: the table does not keep the text.
        LabelError: the labels are of another kind, or everything is labelled.
        StorageError: storage refuses.
    """
    settings = settings or SuggestSettings()
    check_target(labels_out)
    table = Table.open(table_uri)
    other = candidate_model(models_uri, candidate)
    predictions = DerivedTable.open(predictions_uri) if predictions_uri else None
    are_lists = predictions is not None and gives_lists(predictions, settings.prediction_task)
    labels, labelled = load_labelled(labels_uri, settings, is_multi_label=are_lists) if labels_uri else (None, None)
    suggestions = suggest(
        table,
        num,
        encoder=load_table_encoder(table),
        candidate=SentenceEncoder.from_pretrained(other) if other else None,
        labels=labels,
        labelled=labelled,
        predictions=predictions,
        settings=settings,
    )
    write_suggestions(suggestions.rows, labels_out)
    return SuggestReport(
        table_uri=table.uri,
        labels_out=labels_out,
        num_rows=suggestions.rows.height,
        num_pool=suggestions.num_pool,
        criteria=list(suggestions.criteria),
        note=suggestions.note,
        candidate=other,
        rows=suggestions.rows,
    )
