"""All formats, and the format of a name by its ending."""

from functools import lru_cache

from sbert.errors import SettingsError
from sbert.source.formats.base import SourceFormat
from sbert.source.formats.csv_records import CsvFormat, TsvFormat
from sbert.source.formats.html import HtmlFormat
from sbert.source.formats.json_document import JsonFormat
from sbert.source.formats.json_lines import JsonLinesFormat
from sbert.source.formats.lake_file import LakeFileFormat
from sbert.source.formats.markdown import MarkdownFormat
from sbert.source.formats.parquet import ParquetFormat
from sbert.source.formats.pdf import PdfFormat
from sbert.source.formats.plain_text import PlainTextFormat
from sbert.source.objects import Compression

__all__ = ["FORMATS", "READ_ENDINGS", "format_of", "format_of_name", "named_format"]

FORMATS: dict[str, SourceFormat] = {
    each_format.name: each_format
    for each_format in (
        JsonLinesFormat(),
        JsonFormat(),
        CsvFormat(),
        TsvFormat(),
        ParquetFormat(),
        PlainTextFormat(),
        LakeFileFormat(),
        MarkdownFormat(),
        HtmlFormat(),
        PdfFormat(),
    )
}
"""Every format by its name. A new format is added here."""
BY_ENDING = {ending: each_format for each_format in FORMATS.values() for ending in each_format.endings}
COMPRESSIONS = {
    ".gz": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".bz2": Compression.BZ2,
    ".xz": Compression.XZ,
}
READ_ENDINGS = f"{', '.join(BY_ENDING)}, plain or with {', '.join(COMPRESSIONS)}, and .zip"
"""The endings that are read, for messages."""


def format_of(name: str) -> SourceFormat:
    """Return the format with this name."""
    return FORMATS[name]


def format_of_name(uri: str) -> tuple[SourceFormat, Compression] | None:
    """Return format and compression by the ending of an object's name; None when it is not one that is read."""
    _, dot, endings = uri.rsplit("/", 1)[-1].partition(".")
    return _format_of_endings(dot + endings)


@lru_cache(maxsize=4_096)  # a source of 100,000 objects has few different endings
def _format_of_endings(endings: str) -> tuple[SourceFormat, Compression] | None:
    """Return format and compression by everything from the first dot of a name on."""
    name, compression = _compression_of(endings)
    for ending, each_format in BY_ENDING.items():
        if name.endswith(ending):
            is_readable = each_format.may_be_compressed or compression is Compression.NONE
            return (each_format, compression) if is_readable else None
    return None


def named_format(uri: str, name: str) -> tuple[SourceFormat, Compression] | None:
    """Return the format `name` for an object whose name does not say it, with the compression that its ending says.

    None when the object is compressed and the format cannot be.

    Raises:
        SettingsError: when there is no such format.
    """
    if name not in FORMATS or not FORMATS[name].endings:
        names = ", ".join(each.name for each in FORMATS.values() if each.endings)
        raise SettingsError(f"source.format is {name!r}, the formats are: {names}")
    compression = _compression_of(uri)[1]
    source_format = FORMATS[name]
    return (source_format, compression) if source_format.may_be_compressed or compression is Compression.NONE else None


def _compression_of(uri: str) -> tuple[str, Compression]:
    """Return an object's name without the ending of its compression, in lower case, and the compression."""
    name = uri.rsplit("/", 1)[-1].lower()
    for ending, kind in COMPRESSIONS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), kind
    return name, Compression.NONE
