"""Search every file below a location for a text, as a person who does not trust the library would."""

import io

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sbert.storage.files import filesystem, strip_protocol

__all__ = ["files_that_hold"]


def files_that_hold(uri: str, *needles: bytes) -> list[str]:
    """Return the files below `uri` that hold one of the needles: in their bytes, or in a value of a Parquet or Arrow file."""
    fs = filesystem(uri)
    paths = []
    for path in sorted(fs.find(strip_protocol(uri))):
        content = fs.cat_file(path)
        if any(needle in content or needle in _values(path, content) for needle in needles):
            paths.append(path)
    return paths


def _values(path: str, content: bytes) -> bytes:
    """Return all values of a Parquet or Arrow file as one text, binary values as they are."""
    try:
        if path.endswith(".parquet"):
            rows = pq.read_table(io.BytesIO(content))
        elif path.endswith(".arrow"):
            rows = pa.ipc.open_file(content).read_all()
        else:
            return b""
    except pa.ArrowInvalid:  # a file that was never finished
        return b""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    values = [value for column in frame.iter_columns() for value in column.to_list()]
    return b"\x1f".join(value if isinstance(value, bytes) else repr(value).encode() for value in values)
