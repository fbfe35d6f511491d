"""Read the rows of a split in blocks of about one size, whatever the size of its objects."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import polars as pl

from sbert.errors import BrokenObjectError, ColumnError, CutOffError
from sbert.source.blocks import RowBlock
from sbert.source.reading import read_span
from sbert.source.settings import ReadSettings, SourceSettings
from sbert.source.splits import Split

__all__ = ["SplitReader"]


class SplitReader:
    """Reads one object of a split after the other, and goes on when one of them breaks."""

    def __init__(
        self,
        split: Split,
        source: SourceSettings,
        reading: ReadSettings,
        kept_schema: dict[str, pl.DataType],
        *,
        check_running: Callable[[], None],
    ) -> None:
        """Read the rows of a split when `blocks` is called. `check_running` is called between blocks and may raise."""
        self._split = split
        self._source = source
        self._reading = reading
        self._kept_schema = kept_schema
        self._check_running = check_running
        self.broken: dict[str, str] = {}
        """Reasons that objects could not be read to their end, by URI."""
        self.rows_before_break: dict[str, int] = {}
        """Number of whole rows of each object that breaks off after them, by URI."""

    def blocks(self) -> Generator[RowBlock, None, None]:
        """Read the split once, in blocks of about ``block_rows`` rows; fewer when texts are long."""
        waiting: list[RowBlock] = []
        num_waiting, num_bytes = 0, 0
        for block in self._object_blocks():
            self._check_running()
            for part in _cut(block, self._reading.block_rows):
                waiting.append(part)
                num_waiting += part.num_rows_read
                num_bytes += int(part.rows["text"].str.len_bytes().sum())
                if num_waiting >= self._reading.block_rows or num_bytes >= self._reading.block_bytes:
                    yield _concatenate(waiting)
                    waiting, num_waiting, num_bytes = [], 0, 0
        if waiting:
            yield _concatenate(waiting)

    def _object_blocks(self) -> Iterator[RowBlock]:
        """Read every object, and note the broken ones, so that one pass finds them all."""
        for span in self._split.spans:
            num_rows = 0
            try:
                for block in read_span(span, self._source, self._reading, self._kept_schema):
                    num_rows += block.num_rows_read
                    yield block
            except CutOffError as error:
                self.broken[error.uri] = error.detail
                if num_rows:
                    self.rows_before_break[error.uri] = num_rows
            except BrokenObjectError as error:
                self.broken[error.uri] = error.detail
            except ColumnError as error:
                self.broken[span.object.uri] = str(error).removeprefix(f"{span.object.uri}: ")


def _cut(block: RowBlock, block_rows: int) -> Iterator[RowBlock]:
    """Cut a block that is too large; its rejects go with the first part, misfits with their rows."""
    rejects, misfits = block.rejects, block.misfits
    for first in range(0, max(block.rows.height, 1), block_rows):
        rows = block.rows.slice(first, block_rows)
        of_rows = misfits.filter(pl.col("row").is_in(rows["row"].implode())) if misfits.height else misfits
        yield RowBlock(rows, rejects, of_rows)
        rejects = rejects.clear()


def _concatenate(blocks: list[RowBlock]) -> RowBlock:
    if len(blocks) == 1:
        return blocks[0]
    return replace(
        blocks[0],
        rows=pl.concat([block.rows for block in blocks], how="diagonal"),  # only documents have an outline
        rejects=pl.concat([block.rejects for block in blocks]),
        misfits=pl.concat([block.misfits for block in blocks]),
    )
