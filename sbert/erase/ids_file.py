"""Read the keys of rows to erase from a file: records with ``id`` and perhaps ``source``, or plain text."""

import polars as pl

from sbert.errors import SettingsError
from sbert.labels.label_records import read_label_object
from sbert.labels.settings import LabelSettings
from sbert.source.listing import list_objects
from sbert.storage.files import check_no_credentials
from sbert.table.erased_keys import ErasedKeys

__all__ = ["read_keys"]

TEXT_COLUMN = "text"


def read_keys(uri: str) -> ErasedKeys:
    """Return the keys that a file, folder or glob names. Of plain text each line is an id.

    A row without a source means its id in every source. Values are read as raw text is read: a number in JSON is the id
    that the refresh makes of it. Sources stay as they are written, see `sbert.erase.sources`.

    Raises:
        SettingsError: no column ``id``, or no id at all.
        BrokenObjectError, MissingError, StorageError: the file cannot be read.
    """
    if not uri.strip():
        raise SettingsError("no file of ids is named: name a file with the ids of the rows to erase")
    ids: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for item in list_objects(uri):
        rows = read_label_object(item, LabelSettings())
        if rows.columns == [TEXT_COLUMN]:
            rows = rows.rename({TEXT_COLUMN: "id"})
        if rows.height and "id" not in rows.columns:
            raise SettingsError(
                f"{item.uri}: no column 'id', there are {', '.join(rows.columns)}: name the ids to erase in a column 'id', "
                "and if need be their objects in a column 'source'"
            )
        if not rows.height:
            continue
        sources = rows["source"] if "source" in rows.columns else pl.Series([None] * rows.height, dtype=pl.String)
        for source, row_id in zip(sources.to_list(), rows["id"].to_list(), strict=True):
            if row_id is None or row_id == "":
                continue
            if source:
                check_no_credentials(source)
                pairs.add((source, row_id))
            else:
                ids.add(row_id)
    if not ids and not pairs:
        raise SettingsError(f"{uri}: no id is named: nothing would be erased")
    return ErasedKeys(ids, pairs)
