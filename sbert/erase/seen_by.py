"""Labels, frozen rows and models that had seen erased rows. An erasure lists them and leaves them: a person decides.

A label row was copied from the table by a person, and a model cannot forget one row. The list names labels to remove by
hand, and models to train anew.
"""

from collections.abc import Iterable

import polars as pl

from sbert.erase.places import ErasedRows
from sbert.erase.receipt import PlaceReport, SeenBy, SeenKind
from sbert.errors import SbertError
from sbert.labels.label_records import read_label_object
from sbert.labels.load import list_label_objects
from sbert.labels.settings import LabelSettings
from sbert.registry.store import Registry
from sbert.rows.cleaning import CleaningSettings, clean_texts, hash_texts

__all__ = ["find_seen_by"]

FROZEN_SPLITS = ("dev", "test")


def find_seen_by(
    labels_uri: str | None, models_uri: str | None, rows: ErasedRows, cleaning: CleaningSettings
) -> tuple[list[SeenBy], list[PlaceReport]]:
    """Return labels and models that had seen rows, and a problem for each location that could not be read.

    Labels are recognised by the key, or by the hash of a text that was found in the table's shards. Without `labels_uri`
    the labels that the registry's versions name are read, as they are now.
    """
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
        objects = version.labels.objects if version.labels is not None else []
        num_rows = sum(rows_of_objects.get(key.rpartition("@")[0], 0) for key in objects)
        if num_rows:
            seen.append(
                SeenBy(
                    kind=SeenKind.MODEL,
                    location=f"{models_uri}/{version.version}",
                    num_rows=num_rows,
                    detail="its labels, or an earlier state of them, hold these rows",
                )
            )
    return seen, problems


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
