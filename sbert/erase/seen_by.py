"""Labels, frozen rows and models that had seen erased rows. An erasure lists them and leaves them: a person decides.

A label row was copied from the table by a person, and a model cannot forget one row. The list names labels to remove by
hand, and models to train anew. A model is recognised by its record of learned texts, and by the labels that it was trained
on, as they are now.
"""

from collections.abc import Iterable

import polars as pl

from sbert.counted import counted
from sbert.erase.places import ErasedRows
from sbert.erase.receipt import PlaceReport, SeenBy, SeenKind
from sbert.errors import SbertError
from sbert.labels.label_records import read_label_object
from sbert.labels.load import list_label_objects
from sbert.labels.settings import LabelSettings
from sbert.registry.pointer import MODEL_FOLDER
from sbert.registry.store import Registry
from sbert.rows.cleaning import CleaningSettings, clean_texts, hash_texts
from sbert.training.learned_texts import LearnedTexts

__all__ = ["find_seen_by"]

FROZEN_SPLITS = ("dev", "test")


def find_seen_by(
    labels_uri: str | None, models_uri: str | None, rows: ErasedRows, cleaning: CleaningSettings
) -> tuple[list[SeenBy], list[PlaceReport]]:
    """Return labels and models that had seen rows, and a problem for each location that could not be read.

    Labels are recognised by the key, or by the hash of a text that was found in the table's shards. Without `labels_uri`
    the labels that the registry's versions name are read, as they are now. The record of a model knows also texts whose
    labels are gone, and texts that an earlier base learned from.
    """
    hashes = pl.Series(sorted(rows.text_hashes), dtype=pl.Binary)
    seen: list[SeenBy] = []
    problems: list[PlaceReport] = []
    versions = []
    try:
        versions = Registry(models_uri).versions() if models_uri else []
    except SbertError as error:
        problems.append(_unread("models", models_uri or "", error))
    named = {version.labels.uri for version in versions if version.labels is not None}
    rows_of_objects: dict[str, int] = {}
    for uri in [labels_uri] if labels_uri else sorted(named):
        try:
            for item in list_label_objects(uri):
                labels = read_label_object(item, LabelSettings())
                num_rows, num_frozen = _count(labels, rows, cleaning)
                if num_rows:
                    rows_of_objects[item.uri] = num_rows
                    frozen = f"{num_frozen:,} of them are dev or test rows" if num_frozen else ""
                    seen.append(SeenBy(kind=SeenKind.LABELS, location=item.uri, num_rows=num_rows, detail=frozen))
        except SbertError as error:
            problems.append(_unread("labels", uri, error))
    for version in versions:
        location = f"{models_uri}/{version.version}"
        objects = version.labels.objects if version.labels is not None else []
        num_rows = sum(rows_of_objects.get(key.rpartition("@")[0], 0) for key in objects)
        details = ["its labels, or an earlier state of them, hold these rows"] if num_rows else []
        try:
            num_texts = _num_learned(f"{location}/{MODEL_FOLDER}", hashes)
        except SbertError as error:
            problems.append(_unread("models", location, error))
            num_texts = 0
        if num_texts:
            details.append(f"its record of learned texts holds {counted(num_texts, 'erased text')}")
        if details:
            most = max(num_rows, num_texts)
            seen.append(SeenBy(kind=SeenKind.MODEL, location=location, num_rows=most, detail="; ".join(details)))
    return seen, problems


def _num_learned(model_uri: str, hashes: pl.Series) -> int:
    """Return how many erased texts stand in a model's record of learned texts; 0 without a record."""
    learned = LearnedTexts.read(model_uri) if len(hashes) else None
    return 0 if learned is None else learned.num_seen(hashes)


def _count(labels: pl.DataFrame, rows: ErasedRows, cleaning: CleaningSettings) -> tuple[int, int]:
    """Return how many rows of labels have an erased key or text, and how many of these are dev or test rows."""
    if not labels.height:
        return 0, 0
    meant = pl.Series([False] * labels.height)
    if "id" in labels.columns:
        source = "source" if "source" in labels.columns else pl.lit(None, pl.String).alias("source")
        meant |= rows.keys.mask(labels.select(source, "id"))
    hashes = pl.Series(sorted(rows.text_hashes), dtype=pl.Binary).implode()
    for name in labels.columns if rows.text_hashes else ():
        for texts in _spellings(labels[name], cleaning):
            meant |= hash_texts(texts).is_in(hashes).fill_null(value=False)
    is_frozen = (
        labels["split"].str.to_lowercase().is_in(FROZEN_SPLITS).fill_null(value=False)
        if "split" in labels.columns
        else pl.Series([False] * labels.height)
    )
    return int(meant.sum()), int((meant & is_frozen).sum())


def _spellings(texts: pl.Series, cleaning: CleaningSettings) -> Iterable[pl.Series]:
    """Return texts as they are, and as the refresh cleans them."""
    yield texts
    yield clean_texts(texts, cleaning)


def _unread(place: str, location: str, error: SbertError) -> PlaceReport:
    return PlaceReport(place=place, location=location, action="not looked into", problem=f"cannot be read: {error}")
