"""Say when columns are named that plain text cannot have, before anything is read."""

import logging
from collections.abc import Sequence

from sbert.errors import ColumnError
from sbert.source.formats.all_formats import format_of
from sbert.source.objects import SourceObject
from sbert.source.settings import SourceSettings
from sbert.source.templates import id_fields, text_fields

__all__ = ["check_columns_of_plain_text"]

log = logging.getLogger(__name__)

DEFAULT_TEXT = "text"
"""The text column of plain text, which needs no naming."""


def check_columns_of_plain_text(
    raw_uri: str, objects: Sequence[SourceObject], source: SourceSettings, *, is_new: bool
) -> None:
    """Refuse named text and id columns when all objects are plain text; warn when some are.

    Args:
        raw_uri: where the objects are.
        objects: what is read.
        source: the columns that are asked for.
        is_new: whether the table does not have these columns in its settings yet; if it has, nothing is refused.

    Raises:
        ColumnError: naming the columns, one object and the remedy.
    """
    lacking = {item.uri: names for item in objects if (names := _lacking(item, source))}
    if not lacking:
        return
    uri, names = next(iter(lacking.items()))
    said = (
        f"{raw_uri}: {len(lacking):,} of {len(objects):,} objects are plain text, which has no columns, but text_column or "
        f"id_column names {', '.join(map(repr, names))}, such as {uri}"
    )
    if is_new and all(not format_of(item.format).has_columns for item in objects):
        raise ColumnError(
            f"{said}: leave the column out to read each line as a text, or rename objects that hold records to .tsv "
            "or .csv"
        )
    log.warning(
        "%s: a line is read as a text where only the text column is named, else the object is unreadable; if they hold "
        "records, rename them to .tsv or .csv, else keep them in a folder of their own",
        said,
    )


def _lacking(item: SourceObject, source: SourceSettings) -> list[str]:
    """Return the named columns that an object of plain text has neither itself nor by its folders."""
    if format_of(item.format).has_columns or item.unreadable or not item.num_bytes:
        return []
    keys = item.values if source.folder_keys else {}
    names = dict.fromkeys([*text_fields(source), *id_fields(source)])
    return [name for name in names if name != DEFAULT_TEXT and name not in keys]
