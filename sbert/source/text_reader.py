"""Plain text: each line is a document, or the whole object is."""

from collections.abc import Iterator

import polars as pl

from sbert.errors import BrokenObjectError
from sbert.rows.rejects import RejectReason, empty_rejects
from sbert.source.blocks import RowBlock, decode_utf8, finish_block, rejected_lines
from sbert.source.lines import LineChunk, broken_data, open_stream, read_lines
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Span

__all__ = ["read_text"]


def read_text(
    span: Span, source: SourceSettings, read: ReadSettings, kept_schema: dict[str, pl.DataType]
) -> Iterator[RowBlock]:
    """Give the documents of a text object; there are no ids and no other columns in it.

    Raises:
        BrokenObjectError: when columns are to be kept, which plain text does not have.
    """
    if kept_schema or source.id_column is not None:
        wanted = [*([source.id_column] if source.id_column else []), *kept_schema]
        detail = (
            f"plain text has no columns, asked for were {', '.join(wanted)}: ask for none, or for a folder without it"
        )
        raise BrokenObjectError(span.object.uri, detail)
    chunks = _whole(span, read) if source.text_documents == "file" else read_lines(span, read)
    for chunk in chunks:
        if chunk.too_long_bytes:
            detail = f"{chunk.too_long_bytes} bytes, at most {read.max_row_bytes} are read"
            found = [(chunk.first_row, RejectReason.TOO_LONG, detail, chunk.data)]
            nothing = pl.DataFrame(schema={"row": pl.Int64, "id": pl.String, "text": pl.String})
            yield finish_block(span, source, nothing, kept_schema, rejected_lines(span, found))
            continue
        one = source.text_documents == "file"
        lines = [chunk.data] if one else chunk.data.removesuffix(b"\n").split(b"\n")
        raw = pl.DataFrame(
            {
                "row": pl.Series(range(chunk.first_row, chunk.first_row + len(lines)), dtype=pl.Int64),
                "raw": pl.Series(lines, dtype=pl.Binary),
            }
        ).with_columns(pl.lit(None, pl.String).alias("id"))
        raw = raw.with_columns(decode_utf8(raw["raw"]).alias("text"))
        bad = raw.filter(pl.col("text").is_null())
        rejects = empty_rejects()
        if bad.height:
            invalid = (RejectReason.INVALID_UTF8, "the line is not UTF-8")
            rejects = rejected_lines(span, [(row, *invalid, line) for row, line in bad.select("row", "raw").rows()])
            raw = raw.filter(pl.col("text").is_not_null())
        yield finish_block(span, source, raw.drop("raw"), kept_schema, rejects)


def _whole(span: Span, read: ReadSettings) -> Iterator[LineChunk]:
    with broken_data(span.object.uri), open_stream(span) as stream:
        data = stream.read(read.max_row_bytes + 1)
        size = len(data)
        while size > read.max_row_bytes and (more := len(stream.read(read.block_bytes))):
            size += more
    if data:
        yield LineChunk(1, data, too_long_bytes=size if size > read.max_row_bytes else 0)
