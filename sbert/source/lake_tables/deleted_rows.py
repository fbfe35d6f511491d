"""Rows that a table's log marks as deleted without rewriting their file, in a small form that travels with the object."""

import base64
import zlib

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["pack_deleted", "undeleted"]


def pack_deleted(is_deleted: npt.NDArray[np.bool_]) -> str:
    """Return one bit for each row of a file, compressed, as text; rows after the last bit are not deleted."""
    return base64.b85encode(zlib.compress(np.packbits(is_deleted).tobytes())).decode("ascii")


def undeleted(packed: str, row_numbers: pl.Series) -> pl.Series:
    """Return which rows, numbered from 1 within their file, are not deleted."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b85decode(packed)), dtype=np.uint8))
    places = row_numbers.to_numpy() - 1
    is_deleted = np.zeros(len(places), dtype=bool)
    is_known = places < len(bits)
    is_deleted[is_known] = bits[places[is_known]].astype(bool)
    return pl.Series(~is_deleted, dtype=pl.Boolean)
