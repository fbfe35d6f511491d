"""The data of a map's page as one text of letters and digits: typed arrays, compressed, in base64.

So no text of a table is ever part of the page's HTML, and nothing has to be escaped. The packed bytes are the length of a
JSON header (4 bytes, little endian), the header, and the arrays, each at the offset that the header names. A column of
texts is one UTF-8 array with the texts apart by NUL.
"""

import base64
import gzip
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["pack", "text_column"]

ALIGNMENT = 4
TEXT = "text"
KINDS = {"u1": np.uint8, "u2": np.uint16}
SEPARATOR = "\0"
LEVEL = 6


def pack(properties: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, list[str]]) -> str:
    """Return properties, number arrays and columns of texts as base64.

    Args:
        properties: anything that JSON can hold.
        arrays: one-dimensional arrays of uint8 or uint16, by name.
        texts: columns of texts without NUL, by name.
    """
    places: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    offset = 0
    kinds = {np.dtype(kind): name for name, kind in KINDS.items()}
    encoded = {name: (kinds[array.dtype], array.tobytes()) for name, array in arrays.items()}
    encoded |= {name: (TEXT, SEPARATOR.join(column).encode()) for name, column in texts.items()}
    for name, (kind, content) in encoded.items():
        places[name] = {"kind": kind, "offset": offset, "bytes": len(content)}
        parts.append(content + b"\0" * (-len(content) % ALIGNMENT))
        offset += len(parts[-1])
    header = json.dumps({"facts": properties, "arrays": places}, ensure_ascii=False).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    whole = len(header).to_bytes(4, "little") + header + b"".join(parts)
    return base64.b64encode(gzip.compress(whole, LEVEL, mtime=0)).decode("ascii")


def text_column(values: pl.Series, max_chars: int) -> list[str]:
    """Return the values of any column as texts of up to `max_chars` characters; null is an empty text."""
    if values.dtype.is_float():
        texts = pl.Series([None if value is None else f"{value:.6g}" for value in values.to_list()], dtype=pl.String)
    elif values.dtype.is_nested():
        texts = pl.Series(
            [
                None if value is None else json.dumps(value, ensure_ascii=False, default=str)
                for value in values.to_list()
            ],
            dtype=pl.String,
        )
    else:
        texts = values.cast(pl.String)
    texts = texts.fill_null("").str.replace_all(SEPARATOR, " ", literal=True)
    too_long = texts.str.len_chars() > max_chars
    shortened = texts.str.slice(0, max_chars - 1) + "…"
    return texts.zip_with(~too_long, shortened).to_list()
