"""Tell the format of objects whose names have no ending, such as ``part-00000`` of Spark and ``000000_0`` of Hive.

Only formats with a sure sign are told: Parquet, JSON Lines, and arrays of JSON. Other text could be CSV or plain text.
"""

import re

from sbert.source.objects import Compression
from sbert.source.streams import BROKEN, decompressed
from sbert.storage.files import open_input

__all__ = ["format_by_looking", "is_part_name"]

PART_NAME = re.compile(r"(part[-_][^.]*|[0-9]+(_part)?(_[0-9]+)?)(\.(gz|zst|bz2|xz))?")
"""Names that engines give to the parts of an export, also compressed. Other names without an ending (README) are no data."""
HEAD_BYTES = 4096
JSON_FORMATS = {b"{": "jsonl", b"[": "json"}
"""The format by the first character of the text."""
MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    b"BZh": Compression.BZ2,
    b"\xfd7zXZ": Compression.XZ,
}


def is_part_name(name: str) -> bool:
    """Return whether a name without an ending, or with that of a compression only, is that of a part of an export."""
    return PART_NAME.fullmatch(name) is not None


def format_by_looking(uri: str) -> tuple[str, Compression] | None:
    """Return format and compression by an object's first bytes; None when they do not tell.

    Raises:
        StorageError: storage refused.
    """
    with open_input(uri) as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(b"PAR1"):
            return "parquet", Compression.NONE
        compression = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), Compression.NONE)
        if compression is not Compression.NONE:
            file.seek(0)
            try:
                with decompressed(file, compression) as stream:
                    head = stream.read(HEAD_BYTES)
            except BROKEN:
                return None
    name = JSON_FORMATS.get(head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1])
    return (name, compression) if name is not None else None
